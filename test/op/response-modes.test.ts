import { createHash } from 'node:crypto'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { authorizationUrl, isSignedIn, logIn, logoutUrl, redeem } from '../support/op-flow.ts'
import { type RpSite, startRpSite } from '../support/rp-site.ts'
import { startTestOp, type TestOp } from '../support/test-op.ts'
import { createUserAgent, type Page, type UserAgent } from '../support/user-agent.ts'

let rps: RpSite
let op: TestOp
let browser: UserAgent
let notes: ReturnType<RpSite['client']>

beforeAll(async () => {
  rps = await startRpSite()
  notes = rps.client('notes')
  op = await startTestOp({
    clients: [notes],
    configuration: {
      features: {
        devInteractions: { enabled: false },
        jwtResponseModes: { enabled: true },
        webMessageResponseMode: { enabled: true },
      },
    },
  })
})
afterAll(async () => {
  await op.close()
  await rps.close()
})
beforeEach(() => {
  browser = createUserAgent()
})
afterEach(() => browser.close())

type Fields = Record<string, unknown>

const inQuery = (page: Page): Fields => Object.fromEntries(new URL(page.url).searchParams)
const inFragment = (page: Page): Fields => Object.fromEntries(new URLSearchParams(new URL(page.url).hash.slice(1)))
const inForm = (): Fields => Object.fromEntries(rps.forms.at(-1) ?? [])
/** What a page posts to its opener: the JSON that stands in its script. */
function inMessage({ body }: Page): Fields {
  const json = /\{"response":.*\}(?=\)|;|,|\s*$)/m.exec(body)?.[0] ?? '{}'
  return (JSON.parse(json) as { response?: Fields }).response ?? {}
}
/** The claims of the JWT in which a JWT mode wraps everything. */
function unwrapped({ response, ...rest }: Fields): Fields {
  expect(rest).toEqual({})
  return JSON.parse(Buffer.from(String(response).split('.')[1] ?? '', 'base64url').toString()) as Fields
}

/** By hand, with nothing of ours: what Session Management §2 says. */
function recompute(sessionState: string): string {
  const [cookie] = browser.cookies(op.issuer).filter(({ name }) => name.startsWith('__Host-op_state.'))
  const salt = sessionState.split('.')[1]
  const input = `notes ${rps.origin('notes')} ${cookie?.value} ${salt}`
  return `${createHash('sha256').update(input).digest('base64url')}.${salt}`
}

describe.each<[string, (page: Page) => Fields]>([
  ['query', inQuery],
  ['fragment', inFragment],
  ['form_post', inForm],
  ['jwt', (page) => unwrapped(inQuery(page))],
  ['query.jwt', (page) => unwrapped(inQuery(page))],
  ['fragment.jwt', (page) => unwrapped(inFragment(page))],
  ['form_post.jwt', () => unwrapped(inForm())],
  ['web_message', inMessage],
  ['web_message.jwt', (page) => unwrapped(inMessage(page))],
])('session_state by response_mode=%s', (mode, read) => {
  const ask = async (params: Record<string, string> = {}): Promise<Fields> =>
    read(await browser.open(authorizationUrl(op, notes, { response_mode: mode, ...params })))

  it('is in a success, and nowhere outside of a JWT [SM-2-a]', async () => {
    await logIn(browser, op, notes)
    const fields = await ask()
    expect(fields).toMatchObject({ code: expect.any(String), state: 'xyz', iss: op.issuer })
    const state = String(fields.session_state)
    expect(state).toBe(recompute(state))
    expect(state).not.toContain(' ')
  })

  it('comes with a login that a logout ends [RPI-2-k]', async () => {
    await logIn(browser, op, notes)
    const { id_token } = await redeem(op, notes, String((await ask()).code))
    expect(await isSignedIn(browser, op, notes)).toBe(true)
    await browser.open(logoutUrl(op, { id_token_hint: id_token }))
    expect(await isSignedIn(browser, op, notes)).toBe(false)
  })

  it('is in an error [SM-2-b]', async () => {
    const fields = await ask({ prompt: 'none' })
    expect(fields).toMatchObject({ error: 'login_required', state: 'xyz' })
    const state = String(fields.session_state)
    expect(state).toBe(recompute(state))
  })
})
