import { SignJWT } from 'jose'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { answerOn, authorizationUrl, claimsOf, logIn } from '../support/op-flow.ts'
import { type RpSite, startRpSite } from '../support/rp-site.ts'
import { startTestOp, type TestOp } from '../support/test-op.ts'
import { createUserAgent, type Page, type UserAgent } from '../support/user-agent.ts'

/* Where an operator switches request objects on, what they say of a prompt is heard as if it stood in the query. */

let rps: RpSite
let op: TestOp
let browser: UserAgent
let notes: ReturnType<RpSite['client']>
let prompts: string[]
const secret = 'a secret that both sides know, of 32 bytes and more'

beforeEach(async () => {
  rps = await startRpSite()
  notes = { ...rps.client('notes', { request_object_signing_alg: 'HS256' }), client_secret: secret }
  prompts = []
  op = await startTestOp({
    clients: [notes],
    configuration: {
      features: { devInteractions: { enabled: false }, requestObjects: { enabled: true } },
      enabledJWA: { requestObjectSigningAlgValues: ['HS256'] },
    },
    options: { promptCreate: true },
    interact: ({ prompt: { name } }) => {
      prompts.push(name)
      if (name === 'create') return { create: {}, login: { accountId: 'newcomer' } }
      return name === 'login' ? { login: { accountId: 'ada' } } : { consent: {} }
    },
  })
  browser = createUserAgent()
})
afterEach(async () => {
  await browser.close()
  await op.close()
  await rps.close()
})

async function openWith(prompt: unknown, query: Record<string, string> = {}, key = secret): Promise<Page> {
  const { searchParams } = new URL(authorizationUrl(op, notes))
  const request = await new SignJWT({ ...Object.fromEntries(searchParams), prompt })
    .setProtectedHeader({ alg: 'HS256' })
    .setIssuer('notes')
    .setAudience(op.issuer)
    .setIssuedAt()
    .setExpirationTime('1m')
    .sign(new TextEncoder().encode(key))
  return browser.open(authorizationUrl(op, notes, { ...query, request }))
}

describe('prompt in a request object', () => {
  it('starts where accounts are made [PC-4.1-c]', async () => {
    expect(answerOn(await openWith('create')).params.has('code')).toBe(true)
    expect(prompts).toEqual(['create'])
  })

  it('is a space-delimited string: several values are all heard [PC-4.1-c]', async () => {
    await logIn(browser, op, notes)
    prompts.length = 0
    expect(answerOn(await openWith('login consent')).params.has('code')).toBe(true)
    expect(prompts).toEqual(['login', 'consent'])
  })

  it('is no array [PC-4.1-c]', async () => {
    expect(answerOn(await openWith(['create'])).params.get('error')).toBe('invalid_request')
    expect(prompts).toEqual([])
  })

  it('with none asks nobody, and says login_required [PC-4.1-c]', async () => {
    expect(answerOn(await openWith('none')).params.get('error')).toBe('login_required')
    expect(prompts).toEqual([])
  })

  it.each(['make', 'create make'])('that is %j is refused on a page, and nowhere else [PC-4.1-c]', async (prompt) => {
    const page = await openWith(prompt)
    expect(page.status).toBe(400)
    expect(new URL(page.url).origin).toBe(op.issuer)
    expect(page.body).toContain('invalid_request')
    expect(prompts).toEqual([])
  })
})

describe('a request whose integrity is protected by a request object', () => {
  it('is not changed by a prompt in the query [PC-5]', async () => {
    expect(answerOn(await openWith('create', { prompt: 'none' })).params.has('code')).toBe(true)
    expect(prompts).toEqual(['create'])
  })

  it('is refused when somebody else has signed it, and asks nobody [PC-5]', async () => {
    const page = await openWith('create', {}, `${secret} or not`)
    expect(`${page.url} ${page.body}`).toContain('invalid_request_object')
    expect(prompts).toEqual([])
  })

  it('still says in its answer who is signed in [SM-2-a]', async () => {
    await logIn(browser, op, notes)
    const { params } = answerOn(await openWith('none'))
    expect(params.get('session_state')).toMatch(/^[\w-]{43}\.[\w-]{22}$/)
    const { tokens } = await logIn(browser, op, notes)
    expect(claimsOf(tokens.id_token).sub).toBe('ada')
  })
})
