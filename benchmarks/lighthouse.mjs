/* Lighthouse on one page, in a Chromium of its own. Reads {"url", "cookies", "categories", "chrome"} from standard input and
   prints {final, scores, audits}. Used by benchmarks/lighthouse.py. */
import { readFileSync } from "node:fs";
import lighthouse from "lighthouse";
import puppeteer from "puppeteer-core";

const { url, cookies, categories, chrome } = JSON.parse(readFileSync(0, "utf8"));
const browser = await puppeteer.launch({
  executablePath: chrome,
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"],
});
try {
  const page = await browser.newPage();
  await page.setCookie(...Object.entries(cookies).map(([name, value]) => ({ name, value, url })));
  const { lhr } = await lighthouse(url, {
    logLevel: "silent",
    output: "json",
    // Performance is as on a phone with a slow line; without it nothing needs to be slowed down.
    onlyCategories: categories,
    ...(categories.includes("performance") ? {} : { throttlingMethod: "provided" }),
    disableFullPageScreenshot: true,
  }, undefined, page);
  if (lhr.runtimeError) throw new Error(lhr.runtimeError.message);
  const result = {
    final: lhr.finalDisplayedUrl,
    scores: Object.fromEntries(Object.entries(lhr.categories).map(([name, category]) => [name, category.score])),
    audits: Object.fromEntries(Object.entries(lhr.audits).map(([name, audit]) => [name, { score: audit.score, value: audit.numericValue ?? null, shown: audit.displayValue ?? "" }])),
  };
  process.stdout.write(JSON.stringify(result));
} finally {
  await browser.close();
}
