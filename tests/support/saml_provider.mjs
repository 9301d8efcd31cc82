// A SAML identity provider (npm samlify) for tests. Prints its address once it listens; its metadata are at /metadata.
// Usage: node saml_provider.mjs KEY_FILE CERTIFICATE_FILE, with Tocsin's metadata on the standard input.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import samlify from "samlify";

const { Constants, IdentityProvider, SamlLib, ServiceProvider, setSchemaValidator } = samlify;
setSchemaValidator({ validate: async () => "ok" });

const [keyFile, certificateFile] = process.argv.slice(2);
const users = {
  ann: { email: "ann@example.org", name: "Ann", groups: ["Desk", "Everyone"] },
  eve: { email: "alice@elsewhere.example", name: "Eve", groups: ["Admins"] },
};
const attribute = (name, values) =>
  `<saml:Attribute Name="${name}">${values
    .map((value) => `<saml:AttributeValue xsi:type="xs:string">${value}</saml:AttributeValue>`)
    .join("")}</saml:Attribute>`;

const server = createServer();
server.listen(0, "127.0.0.1", () => {
  const base = `http://127.0.0.1:${server.address().port}`;
  const provider = IdentityProvider({
    entityID: `${base}/metadata`,
    privateKey: readFileSync(keyFile, "utf8"),
    signingCert: readFileSync(certificateFile, "utf8"),
    nameIDFormat: ["urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"],
    singleSignOnService: [{ Binding: Constants.namespace.binding.redirect, Location: `${base}/sso` }],
    loginResponseTemplate: { ...SamlLib.defaultLoginResponseTemplate, attributes: [] },
  });
  const tocsin = ServiceProvider({ metadata: readFileSync(0, "utf8") });

  server.on("request", async (request, response) => {
    const url = new URL(request.url, base);
    if (url.pathname === "/metadata") {
      response.end(provider.getMetadata());
      return;
    }
    const login = url.searchParams.get("login");
    if (login === null) {
      response.setHeader("Content-Type", "text/html");
      const links = Object.keys(users).map((name) => `<a href="${url.pathname}${url.search.replaceAll("&", "&amp;")}&amp;login=${name}">${name}</a>`);
      response.end(`<!doctype html><title>Provider</title><h1>Who are you?</h1>${links.join(" ")}`);
      return;
    }
    const asked = await provider.parseLoginRequest(tocsin, "redirect", {
      query: Object.fromEntries(url.searchParams),
    });
    const now = new Date();
    const later = new Date(now.getTime() + 300_000).toISOString();
    const acs = tocsin.entityMeta.getAssertionConsumerService("post");
    const user = users[login];
    const answer = await provider.createLoginResponse(tocsin, asked, "post", {}, (template) => ({
      context: SamlLib.replaceTagsByValue(template, {
        ID: `_${crypto.randomUUID()}`,
        AssertionID: `_${crypto.randomUUID()}`,
        Destination: acs,
        SubjectRecipient: acs,
        Audience: tocsin.entityMeta.getEntityID(),
        Issuer: provider.entityMeta.getEntityID(),
        IssueInstant: now.toISOString(),
        ConditionsNotBefore: now.toISOString(),
        ConditionsNotOnOrAfter: later,
        SubjectConfirmationDataNotOnOrAfter: later,
        StatusCode: Constants.StatusCode.Success,
        NameIDFormat: "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent",
        NameID: login,
        InResponseTo: asked.extract.request.id,
        AuthnStatement: "",
        AttributeStatement: "",
      }).replace(
        "</saml:Assertion>",
        `<saml:AuthnStatement AuthnInstant="${now.toISOString()}" SessionIndex="s-${login}"><saml:AuthnContext>` +
          "<saml:AuthnContextClassRef>urn:oasis:names:tc:SAML:2.0:ac:classes:Password</saml:AuthnContextClassRef>" +
          `</saml:AuthnContext></saml:AuthnStatement><saml:AttributeStatement>${attribute("email", [user.email])}` +
          `${attribute("username", [login])}${attribute("name", [user.name])}${attribute("groups", user.groups)}` +
          "</saml:AttributeStatement></saml:Assertion>",
      ),
    }));
    const relayState = url.searchParams.get("RelayState");
    if (request.headers.accept?.includes("text/html")) {
      response.setHeader("Content-Type", "text/html");
      response.end(
        `<!doctype html><title>Provider</title><form method="post" action="${answer.entityEndpoint}">` +
          `<input type="hidden" name="SAMLResponse" value="${answer.context}">` +
          `<input type="hidden" name="RelayState" value="${relayState}"></form><script>document.forms[0].submit()</script>`,
      );
      return;
    }
    response.setHeader("Content-Type", "application/json");
    response.end(JSON.stringify({ response: answer.context, relayState }));
  });
  console.log(base);
});
