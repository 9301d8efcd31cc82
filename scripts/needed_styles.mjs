/* Prints the rules of a style sheet that pages can need. Reads {"css": path, "content": [patterns of files]} from standard
   input; a rule stays when every name in its selector stands as a word in one of those files. */
import { readFileSync } from "node:fs";
import { PurgeCSS } from "purgecss";

const { css, content } = JSON.parse(readFileSync(0, "utf8"));
const [needed] = await new PurgeCSS().purge({ css: [css], content });
process.stdout.write(needed.css);
