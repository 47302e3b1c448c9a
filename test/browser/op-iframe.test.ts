import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { answerStatusRequests, type OpIframePage } from '../../src/browser/op-iframe.ts'
import { computeSessionState } from '../../src/protocol/session-state.ts'
import { settle } from './fake-world.ts'

const origin = 'https://notes.example'
const clientId = 'notes app' // Client IDs may contain spaces
const browserState = 'b7Xy.3'
const cookieName = '__Host-op-state'

const sha256 = async (text: string) => new Uint8Array(createHash('sha256').update(text).digest())
const stateFor = (state: string) =>
  computeSessionState({ clientId, origin, browserState: state, salt: 'pepper' }, sha256)
const matching = `${clientId} ${await stateFor(browserState)}`
const outdated = `${clientId} ${await stateFor('before the logout')}`

interface Setting {
  readonly site?: string
  readonly cookies?: string | (() => string)
  readonly access?: boolean | (() => Promise<boolean>)
  readonly statuses?: readonly (number | 'network failure')[]
}

function openFrame({
  site = 'cross-site',
  cookies = `a=1; ${cookieName}=${browserState}`,
  access = true,
  statuses = [204],
}: Setting = {}) {
  const window = new EventTarget()
  const asked: unknown[] = []
  const page: OpIframePage = {
    window,
    site,
    cookieName,
    cookies: () => (typeof cookies === 'string' ? cookies : cookies()),
    hasStorageAccess: typeof access === 'function' ? access : async () => access,
    async askOp(body) {
      const status = statuses[Math.min(asked.push(JSON.parse(body)), statuses.length) - 1] ?? 0
      if (status === 'network failure') throw new TypeError('fetch failed')
      return { status: status }
    },
    sha256,
  }
  answerStatusRequests(page)
  const answers: { answer: unknown; to: unknown }[] = []
  const source = { postMessage: (answer: unknown, to: unknown) => answers.push({ answer, to }) }
  const post = async (data: unknown, from: object = { origin, source }) => {
    window.dispatchEvent(Object.assign(new Event('message'), { data, ...from }))
    await settle()
    return answers.at(-1)?.answer
  }
  return { window, asked, answers, post, source }
}

describe('the OP iframe answers', () => {
  const rows: readonly [string, Setting, string, string][] = [
    ['unchanged when the state matches [SM §3.2]', {}, matching, 'unchanged'],
    [
      'unchanged whatever the browser says about access: a match cannot be faked',
      { access: false },
      matching,
      'unchanged',
    ],
    ['changed to the same site when it does not match', { site: 'same-site', access: false }, outdated, 'changed'],
    ['changed to the same origin when it does not match', { site: 'same-origin', access: false }, outdated, 'changed'],
    ['changed cross-site when the cookies are the real ones', { access: true }, outdated, 'changed'],
    ['error cross-site when the cookies are those of a partition', { access: false }, outdated, 'error'],
    ['error when the site is not known and access is denied', { site: 'unknown', access: false }, outdated, 'error'],
    ['error when the browser cannot say', { access: () => Promise.reject(new Error('no')) }, outdated, 'error'],
    ['error when the browser withholds the cookie [SM-5.1-a] [E36]', { cookies: '' }, matching, 'error'],
    ['error when it is withheld though same-site', { cookies: 'a=1', site: 'same-site' }, outdated, 'error'],
    [
      'error when a cookie of a longer name is all there is',
      { cookies: `${cookieName}2=${browserState}` },
      matching,
      'error',
    ],
    [
      'error when reading cookies throws',
      {
        cookies() {
          throw new DOMException('denied', 'SecurityError')
        },
      },
      matching,
      'error',
    ],
    ['error for an origin that is not the client’s, matching or not [SM §6]', { statuses: [403] }, matching, 'error'],
    ['error when the OP cannot be asked about the origin', { statuses: ['network failure'] }, matching, 'error'],
    ['error when the OP is broken', { statuses: [500] }, matching, 'error'],
  ]
  it.each(rows)('%s, and to the origin that asked [SM-3.2-f]', async (_, setting, message, answer) => {
    const { post, answers } = openFrame(setting)
    expect(await post(message)).toBe(answer)
    expect(answers).toEqual([{ answer, to: { targetOrigin: origin } }])
  })

  it.each([
    '',
    'notes',
    'notes state-without-salt',
    ' .',
    `notes ${'x'.repeat(5000)}.salt`,
  ])('error to the malformed %j, without asking anybody [SM §3.2]', async (message) => {
    const { post, asked } = openFrame()
    expect(await post(message)).toBe('error')
    expect(asked).toEqual([])
  })
})

describe('the OP iframe ignores', () => {
  it('what is not a string, its own messages and those of opaque origins', async () => {
    const { post, answers, window, source } = openFrame()
    await post({ type: 'from an extension' })
    await post(undefined)
    await post(matching, { origin, source: window })
    await post(matching, { origin, source: null })
    await post(matching, { origin: 'null', source })
    expect(answers).toEqual([])
  })
})

describe('the OP is asked about an origin', () => {
  it('once for all questions of a client, also those that come while it thinks: the answer is kept [SM-3.2-b]', async () => {
    const { post, asked, answers } = openFrame()
    await Promise.all([post(matching), post(outdated), post(matching)])
    await post(outdated)
    expect(asked).toEqual([{ client_id: clientId, origin }])
    expect(answers.map(({ answer }) => answer).toSorted()).toEqual(['changed', 'changed', 'unchanged', 'unchanged'])
  })

  it('once when it says no [SM-3.2-b]', async () => {
    const { post, asked } = openFrame({ statuses: [403, 204] })
    await post(matching)
    expect(await post(matching)).toBe('error')
    expect(asked).toHaveLength(1)
  })

  it.each(['network failure', 502] as const)('again after a %s', async (failure) => {
    const { post, asked } = openFrame({ statuses: [failure, 204] })
    expect(await post(matching)).toBe('error')
    expect(await post(matching)).toBe('unchanged')
    expect(asked).toHaveLength(2)
  })

  it('for each client and origin of its own', async () => {
    const { post, asked, source } = openFrame()
    await post(matching)
    await post(matching, { origin: 'https://mail.example', source })
    await post(matching.replace(clientId, 'mail'))
    expect(asked).toHaveLength(3)
  })
})
