import { type Configuration, errors, Provider as OidcProvider } from 'oidc-provider'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { assertSeam, clientFrom, mintLogoutToken } from '../../src/op/provider-seam.ts'
import { LockstepError } from '../../src/protocol/errors.ts'
import { logIn, logoutUrl } from '../support/op-flow.ts'
import { type RpSite, startRpSite } from '../support/rp-site.ts'
import { slowMemoryAdapter } from '../support/slow-memory-adapter.ts'
import { startTestOp, type TestOp } from '../support/test-op.ts'
import { createUserAgent } from '../support/user-agent.ts'

let rps: RpSite
let op: TestOp

beforeEach(async () => {
  rps = await startRpSite()
  op = await startTestOp({ clients: [rps.client('notes'), rps.client('mail')] })
})
afterEach(async () => {
  await op.close()
  await rps.close()
})

const configuration: Configuration = {
  adapter: slowMemoryAdapter(),
  cookies: { keys: ['a key'] },
  features: { devInteractions: { enabled: false }, jwtResponseModes: { enabled: true } },
  // RFC 7515, appendix A.3: an example key
  jwks: {
    keys: [
      {
        kty: 'EC',
        crv: 'P-256',
        alg: 'ES256',
        x: 'f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU',
        y: 'x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0',
        d: 'jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI',
      },
    ],
  },
}

/** oidc-provider as it comes: what the seam is put on. */
function stock(): OidcProvider {
  return new OidcProvider('https://op.example', configuration)
}

describe('the seam’s check at start', () => {
  it('is content with the installed oidc-provider', () => {
    expect(() => assertSeam(stock())).not.toThrow()
  })

  type Tamper = (provider: OidcProvider) => void
  const without = (object: object, name: string) => Object.defineProperty(object, name, { value: undefined })
  it.each<[string, Tamper]>([
    ['Client(metadata, ctx)', (provider) => Object.defineProperty(provider.Client, 'length', { value: 1 })],
    ['Client.prototype.includeSid()', (provider) => without(provider.Client.prototype, 'includeSid')],
    [
      'Client.prototype.backchannelLogout(sub, sid)',
      (provider) => without(provider.Client.prototype, 'backchannelLogout'),
    ],
    [
      'Client.prototype.backchannelLogout(sub, sid)',
      (provider) =>
        Object.defineProperty(provider.Client.prototype, 'backchannelLogout', { value: async (_sub: string) => {} }),
    ],
    [
      'Session.prototype.destroy()',
      (provider) =>
        Object.defineProperty(provider.Session.prototype, 'destroy', {
          async value(_how: string) {
            this.destroyed = true
          },
        }),
    ],
    ['Session.get(ctx)', (provider) => without(provider.Session, 'get')],
    ['IdToken.validate(jwt, client)', (provider) => without(provider.IdToken, 'validate')],
    [
      'IdToken with a mask',
      (provider) => Object.defineProperty(provider.IdToken.prototype, 'payload', { value: async () => ({}) }),
    ],
    [
      'Session.destroyed',
      (provider) => Object.defineProperty(provider.Session.prototype, 'destroy', { value: async () => {} }),
    ],
    ['createContext(req, res)', (provider) => without(provider, 'createContext')],
    ['OIDCContext(ctx)', (provider) => without(provider, 'OIDCContext')],
    [
      'the route end_session_confirm',
      (provider) => {
        const { pathFor } = provider
        provider.pathFor = function named(this: OidcProvider, name, options) {
          if (name === 'end_session_confirm') throw new Error('No route found for name: end_session_confirm')
          return pathFor.call(this, name, options)
        }
      },
    ],
  ])('says in a sentence that %s is missing', (name, tamper) => {
    const provider = stock()
    tamper(provider)
    const check = () => assertSeam(provider)
    expect(check).toThrow(LockstepError)
    expect(check).toThrow(`This version of oidc-provider lacks ${name}, which Lockstep builds on.`)
    expect(check).toThrow(expect.objectContaining({ code: 'provider_unsupported' }))
  })

  it('says so of registerResponseMode too', () => {
    const provider = stock()
    const { prototype } = OidcProvider
    const original = Object.getOwnPropertyDescriptor(prototype, 'registerResponseMode') ?? {}
    Object.defineProperty(prototype, 'registerResponseMode', { configurable: true, value: undefined })
    try {
      expect(() => assertSeam(provider)).toThrow('lacks registerResponseMode(name, handler)')
    } finally {
      Object.defineProperty(prototype, 'registerResponseMode', original)
    }
  })

  it('names all that is missing at once', () => {
    const provider = stock()
    without(provider.Session, 'get')
    without(provider.IdToken, 'validate')
    expect(() => assertSeam(provider)).toThrow('lacks Session.get(ctx), IdToken.validate(jwt, client), which')
  })
})

describe('what the seam assumes of oidc-provider', () => {
  it('its constructor registers the built-in response modes by the method we override', async () => {
    const registered: string[] = []
    class Probe extends OidcProvider {
      override registerResponseMode(...[name, handler]: Parameters<OidcProvider['registerResponseMode']>): void {
        registered.push(name)
        super.registerResponseMode(name, handler)
      }
    }
    expect(new Probe('https://op.example', configuration)).toBeInstanceOf(OidcProvider)
    expect(registered).toEqual(
      expect.arrayContaining(['query', 'fragment', 'form_post', 'jwt', 'query.jwt', 'fragment.jwt', 'form_post.jwt']),
    )
  })

  it('a Client is made of a registration, and asks nobody about it', () => {
    const sector = 'https://127.0.0.1:1/sector'
    const made = clientFrom(op.provider, { ...rps.client('board'), sector_identifier_uri: sector })
    expect(made).toBeInstanceOf(op.provider.Client)
    expect(made.metadata()).toMatchObject({ client_id: 'board', sector_identifier_uri: sector })
    expect(() => clientFrom(op.provider, { client_id: 'board', redirect_uris: ['nowhere'] })).toThrow(
      errors.InvalidClientMetadata,
    )
  })

  it('a Client, a Session and an IdToken are classes of one provider: two OPs do not change each other', () => {
    const [a, b] = [stock(), stock()]
    expect(a.Client.prototype).not.toBe(b.Client.prototype)
    expect(a.Session.prototype).not.toBe(b.Session.prototype)
  })

  it('a masked sub gets into a token without any scope, and each token of one logout has its own jti [BCL-2.4-a]', async () => {
    const client = await op.provider.Client.find('notes')
    if (!client) throw new Error('no client')
    const logout = { id: 'l', uid: 'u', accountId: 'ada', cause: 'admin', endedAt: 1_800_000_000_999 } as const
    const claims = async (jti: string) => {
      const token = await mintLogoutToken(op.provider, client, { logout, sid: 'sid-1' }, { jti, revokeOffline: false })
      return JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString())
    }
    const [first, second] = [await claims('one'), await claims('two')]
    expect(first).toMatchObject({ sub: 'ada', sid: 'sid-1', toe: 1_800_000_000, jti: 'one' })
    expect(second).toMatchObject({ sub: 'ada', sid: 'sid-1', toe: 1_800_000_000, jti: 'two' })
  })

  it('a destroyed session is announced once and neither saved nor given a cookie', async () => {
    const browser = createUserAgent()
    const { tokens } = await logIn(browser, op, rps.client('notes'))
    let announced = 0
    op.provider.on('session.destroyed', () => announced++)
    await logIn(browser, op, rps.client('notes'), { login_hint: 'bob', prompt: 'login' })
    expect(announced).toBe(1)
    expect(await op.provider.opSessions.list({ accountId: 'ada' })).toEqual({ sessions: [] })
    expect((await browser.open(logoutUrl(op, { id_token_hint: tokens.id_token }))).body).toContain(
      'Sign out everywhere?',
    )
    await browser.close()
  })
})
