// A real OpenID Connect provider on loopback, with its own login form, for tests and the demo.
//
//   node provider.mjs SETTINGS.json
//
// SETTINGS: { port, node_modules, clients, accounts: { LOGIN: { password, claims } }, ttl, userinfo_only, groups_scope,
//             tls: { key, cert } }
// Prints one line when it serves. What a test changes while it runs it asks for at /test/…; nobody but tests does.
import http from 'node:http';
import https from 'node:https';
import { createRequire } from 'node:module';
import { generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const settings = JSON.parse(readFileSync(process.argv[2]));
const require = createRequire(`${settings.node_modules}/`);
const { default: Provider } = await import(pathToFileURL(require.resolve('oidc-provider')));
const accounts = settings.accounts ?? {};
const scheme = settings.tls ? 'https' : 'http';
const issuer = `${scheme}://127.0.0.1:${settings.port}`;
let generation = 0;

function key() {
  generation += 1;
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'ES256', kid: `key-${generation}` };
}

function provider(keys) {
  const made = new Provider(issuer, {
    clients: settings.clients,
    jwks: { keys },
    cookies: { keys: ['only for tests'] },
    claims: {
      openid: ['sub'], email: ['email', 'email_verified'], profile: ['name', 'preferred_username'], groups: ['groups'],
    },
    scopes: ['openid', 'email', 'profile', 'groups', 'offline_access', 'run'],
    conformIdTokenClaims: settings.userinfo_only ?? false,
    clientDefaults: { id_token_signed_response_alg: 'ES256' },
    enabledJWA: { idTokenSigningAlgValues: ['ES256'], userinfoSigningAlgValues: ['ES256'] },
    rotateRefreshToken: true,
    issueRefreshToken: async (ctx, client) => client.grantTypeAllowed('refresh_token'),
    pkce: { required: () => true, methods: ['S256'] },
    ttl: { AccessToken: 600, IdToken: 600, RefreshToken: 3600, DeviceCode: 120, Session: 600, Grant: 3600, Interaction: 600, ...settings.ttl },
    features: {
      deviceFlow: { enabled: true },
      revocation: { enabled: true },
      clientCredentials: { enabled: true },
      devInteractions: { enabled: true },
      resourceIndicators: {
        enabled: true,
        useGrantedResource: () => true,
        getResourceServerInfo: (ctx, indicator) => ({ scope: 'run', audience: indicator, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'ES256' } } }),
      },
    },
    async findAccount(ctx, id) {
      const account = accounts[id];
      // The provider's own development form asks for a password; this is where one is compared.
      if (!account || (ctx.oidc?.body?.login && ctx.oidc.body.password !== account.password)) return undefined;
      return { accountId: account.claims.sub ?? id, claims: async () => ({ sub: id, ...account.claims }) };
    },
  });
  // Claims are looked up by the subject, and the form sends the login.
  made.proxy = false;
  return made;
}

let keys = [key()];
let serving = provider(keys).callback();
let down = false;

const changes = {
  '/test/rotate': () => { keys = [key()]; serving = provider(keys).callback(); },
  '/test/down': () => { down = true; },
  '/test/up': () => { down = false; },
};

function answer(request, response) {
  const url = new URL(request.url, issuer);
  if (changes[url.pathname]) {
    changes[url.pathname]();
    return response.end('done\n');
  }
  if (url.pathname === '/test/groups') {
    accounts[url.searchParams.get('login')].claims.groups = url.searchParams.getAll('group');
    return response.end('done\n');
  }
  if (down) return request.socket.destroy();
  return serving(request, response);
}

const server = settings.tls
  ? https.createServer({ key: readFileSync(settings.tls.key), cert: readFileSync(settings.tls.cert) }, answer)
  : http.createServer(answer);
server.listen(settings.port, '127.0.0.1', () => {
  console.log(`serving ${issuer}`);
});
