// A certified OpenID provider (npm oidc-provider) for tests. Prints its issuer once it listens.
// Usage: node openid_provider.mjs REDIRECT_URI LOGOUT_URI
import { createServer } from "node:http";
import { Provider } from "oidc-provider";

const [redirectUri, logoutUri] = process.argv.slice(2);
const users = {
  ann: { email: "ann@example.org", email_verified: true, name: "Ann", preferred_username: "ann", groups: ["Desk"] },
  eve: { email: "alice@example.org", email_verified: false, name: "Eve", preferred_username: "eve", groups: ["Admins"] },
};

const server = createServer();
server.listen(0, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: "tocsin",
        client_secret: "a-client-secret",
        redirect_uris: [redirectUri],
        backchannel_logout_uri: logoutUri,
        backchannel_logout_session_required: true,
      },
    ],
    claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name", "preferred_username", "groups"] },
    // The ID token has only the subject: the rest is asked for as user information, as the standard has it.
    pkce: { required: () => true },
    features: { backchannelLogout: { enabled: true }, devInteractions: { enabled: true } },
    cookies: { keys: ["for tests only"] },
    findAccount: (_context, id) => ({ accountId: id, claims: () => ({ sub: id, ...users[id] }) }),
  });
  server.on("request", provider.callback());
  process.stdout.write(`${issuer}\n`);
});
// Ends with the test that started it, even if that was killed.
process.stdin.on("end", () => process.exit(0)).resume();
