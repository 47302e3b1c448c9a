import { randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { decodeProtectedHeader } from 'jose'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type OpStore, openSecrets, Provider, rotateKeys, type SecretsOptions } from '../../../src/op.ts'
import { sqliteStore } from '../../../src/op-sqlite.ts'
import { expectQuestion } from '../../support/logout-pages.ts'
import { isSignedIn, logIn, logoutUrl } from '../../support/op-flow.ts'
import { startRpSite } from '../../support/rp-site.ts'
import { startTestOp, type TestOp } from '../../support/test-op.ts'
import { createUserAgent } from '../../support/user-agent.ts'

const issuer = 'https://op.example'
const day = 86_400
let folder: string
let file: string
let store: OpStore
let at: number
const opened: { close(): unknown }[] = []
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'lockstep-keys-'))
  file = join(folder, 'op.db')
  store = sqliteStore(file)
  at = 1_800_000_000
})
afterEach(async () => {
  for (const each of opened.splice(0).reverse()) await each.close()
  await store.close()
  rmSync(folder, { recursive: true })
})

const options = (more: SecretsOptions = {}): SecretsOptions => ({
  algorithms: ['ES256'],
  now: () => at * 1000,
  ...more,
})
const kids = async (more?: SecretsOptions): Promise<(string | undefined)[]> =>
  (await openSecrets(store, issuer, options(more))).jwks.keys.map(({ kid }) => kid)

describe('a rotation', () => {
  it('lets a key sign that was listed all the time, and lists a new one [T26]', async () => {
    const [signs, waits] = await kids()
    at += 900
    expect(await rotateKeys(store, issuer, options())).toEqual([waits])
    const after = await kids()
    expect(after).toHaveLength(3)
    expect([after[0], after[2]]).toEqual([waits, signs])
    expect([signs, waits]).not.toContain(after[1])
  })

  it('waits until RPs can know the next key: 900 seconds, or as the operator says [T26]', async () => {
    await kids()
    at += 899
    await expect(rotateKeys(store, issuer, options())).rejects.toMatchObject({ code: 'key_too_young' })
    await expect(rotateKeys(store, issuer, options({ jwksCache: 800 }))).resolves.toHaveLength(1)
  })

  it('cannot be made twice without a start of the OP in between, which lists the next key [T26]', async () => {
    await kids()
    at += day
    await rotateKeys(store, issuer, options())
    at += day
    await expect(rotateKeys(store, issuer, options())).rejects.toMatchObject({ code: 'key_too_young' })
    await kids()
    at += 900
    await expect(rotateKeys(store, issuer, options())).resolves.toHaveLength(1)
  })

  it('keeps the old key for hints as long as an OP session can live, counted from the start that retired it [T26]', async () => {
    const [old] = await kids()
    at += day
    await rotateKeys(store, issuer, options())
    at += 60 * day // nobody restarted the OP: it signed with the old key until now
    expect(await kids()).toContain(old)
    at += 31 * day
    expect(await kids()).toContain(old)
    at += 1
    expect(await kids()).not.toContain(old)
    expect(await kids()).toHaveLength(2)
  })

  it('keeps it longer where OP sessions live longer, as the Provider must be told as well [T26]', async () => {
    const long = { sessionLifetime: 60 * day }
    const [old] = await kids(long)
    at += day
    await rotateKeys(store, issuer, options())
    await kids(long)
    at += 60 * day
    expect(await kids(long)).toContain(old)

    const provider = async (told: SecretsOptions, sessionLifetime: number): Promise<void> => {
      const { jwks, cookieKeys } = await openSecrets(store, issuer, options(told))
      const features = { devInteractions: { enabled: false } }
      const configuration = { jwks: { keys: [...jwks.keys] }, cookies: { keys: cookieKeys }, features }
      await new Provider(issuer, configuration, { store, sessionLifetime }).close()
    }
    await expect(provider({}, 60 * day)).rejects.toThrow(TypeError)
    await expect(provider({}, 60 * day)).rejects.toThrow('sessionLifetime')
    await provider(long, 60 * day)
    await provider(long, day)
  })

  it('is made once by two operators at the same moment', async () => {
    await kids()
    at += day
    const outcomes = await Promise.allSettled([1, 2].map(() => rotateKeys(store, issuer, options())))
    expect(outcomes.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected'])
    expect(await kids()).toHaveLength(3)
  })

  it('changes nothing about cookies', async () => {
    const before = await openSecrets(store, issuer, options())
    at += day
    await rotateKeys(store, issuer, options())
    expect((await openSecrets(store, issuer, options())).cookieKeys).toEqual(before.cookieKeys)
  })
})

describe('a compromised key', () => {
  it('is withdrawn at once, and the next one, which RPs know, signs instead [T26]', async () => {
    const [stolen = '', waits] = await kids()
    expect(await rotateKeys(store, issuer, { ...options(), compromised: [stolen] })).toEqual([waits])
    const after = await kids()
    expect(after).toHaveLength(2)
    expect(after[0]).toBe(waits)
    expect(after).not.toContain(stolen)
  })

  it('takes all others with it when the operator says all [T26]', async () => {
    const before = await kids()
    const [signs] = await rotateKeys(store, issuer, { ...options(), compromised: 'all' })
    const after = await kids()
    expect(after[0]).toBe(signs)
    expect(after.filter((kid) => before.includes(kid))).toEqual([])
  })
})

describe('a compromised key that is named wrongly', () => {
  const lost = (compromised: readonly string[]) => rotateKeys(store, issuer, { ...options(), compromised })

  it('withdraws nothing and says so, with the keys there are: a typing error must not look like a rescue [T26]', async () => {
    const before = await kids()
    await expect(lost(['no-such-kid'])).rejects.toMatchObject({ code: 'key_unknown' })
    await expect(lost([before[0] ?? '', 'no-such-kid'])).rejects.toThrow('There is no key no-such-kid')
    await expect(lost(['no-such-kid'])).rejects.toThrow(before[1] ?? 'no second key')
    await expect(lost([])).rejects.toThrow('compromised must name')
    expect(await kids()).toEqual(before)
  })

  it('is refused in any other form, and so is an option that does not exist [T26]', async () => {
    const before = await kids()
    const asked = (more: object) => rotateKeys(store, issuer, { ...options(), ...more })
    await expect(asked({ compromised: before[0] })).rejects.toThrow('compromised must name')
    await expect(asked({ compromised: 'none' })).rejects.toThrow('compromised must name')
    await expect(asked({ compromised: null })).rejects.toThrow('compromised must name')
    await expect(asked({ compromized: 'all', jwksCache: 0 })).rejects.toThrow('"compromized" is not an option')
    await expect(openSecrets(store, issuer, JSON.parse('{"sessionlifetime":1}'))).rejects.toThrow('"sessionlifetime"')
    expect(await kids()).toEqual(before)
  })
})

describe('all keys compromised', () => {
  it('are the cookie keys too, which lay beside them: another one signs, and the old one is good for the cookies that are out, once [T26]', async () => {
    const before = await openSecrets(store, issuer, options())
    await rotateKeys(store, issuer, { ...options(), compromised: 'all' })
    const { cookieKeys: after } = await openSecrets(store, issuer, options())
    expect(after).toEqual([expect.stringMatching(/^[\w-]{43}$/), ...before.cookieKeys])
    expect(after[0]).not.toBe(after[1])
    await rotateKeys(store, issuer, { ...options(), compromised: 'all' })
    const { cookieKeys: then } = await openSecrets(store, issuer, options())
    expect(then.slice(1)).toEqual([after[0]])
  })
})

describe('the keys of a running OP', () => {
  it('rotate with a restart: old hints are still accepted, new tokens are signed by the next key; a compromised key’s hints lead to the question, and to no app [T26] [E1] [RPI-2-k] [RPI-4-c]', async () => {
    const rps = await startRpSite()
    const browser = createUserAgent()
    opened.push(rps, browser)
    const notes = rps.client('notes', { id_token_signed_response_alg: 'ES256' })
    const bye = `${rps.origin('notes')}/bye`
    const start = (port?: number): Promise<TestOp> =>
      startTestOp({ clients: [notes], store, ...(port === undefined ? {} : { port }) })

    let op = await start()
    const { port } = op
    const first = await logIn(browser, op, notes)
    await op.close()
    await rotateKeys(store, op.issuer, { jwksCache: 0 })
    op = await start(port)
    const hint = { id_token_hint: first.tokens.id_token, post_logout_redirect_uri: bye }
    expect((await browser.open(logoutUrl(op, hint))).url).toBe(bye)
    const second = await logIn(browser, op, notes)
    const [a, b] = [first, second].map(({ tokens }) => decodeProtectedHeader(tokens.id_token).kid)
    expect(a).not.toBe(b)
    await op.close()

    await rotateKeys(store, op.issuer, { compromised: [b ?? ''] })
    op = await start(port)
    opened.push(op)
    const stolen = { ...hint, id_token_hint: second.tokens.id_token, client_id: 'notes', state: 's' }
    const asked = await browser.open(logoutUrl(op, stolen))
    expectQuestion(asked, op)
    expect(asked.body).not.toContain('Notes asks')
    expect((await browser.submit(asked, { answer: 'yes' })).url).toBe(`${op.issuer}/session/end/signed-out`)
    expect(await isSignedIn(browser, op, notes)).toBe(false)
    const { keys } = (await (await fetch(`${op.issuer}/jwks`)).json()) as { keys: { kid: string }[] }
    expect(keys.map(({ kid }) => kid)).not.toContain(b)
  })
})

describe('the secrets at rest', () => {
  const [one, two] = [randomBytes(32), randomBytes(32)]
  const dump = (): string => ['', '-wal'].map((end) => readFileSync(file + end, 'latin1')).join('')

  it('are encrypted under a key from outside the store [T6]', async () => {
    const { jwks, cookieKeys } = await openSecrets(store, issuer, options({ encryptionKeys: [one] }))
    expect(await openSecrets(store, issuer, options({ encryptionKeys: [one] }))).toEqual({ jwks, cookieKeys })
    for (const secret of [...jwks.keys.map(({ d }) => d ?? ''), ...cookieKeys]) expect(dump()).not.toContain(secret)
  })

  it('cannot be read without it, and say so [T6]', async () => {
    await openSecrets(store, issuer, options({ encryptionKeys: [one] }))
    await expect(openSecrets(store, issuer, options())).rejects.toMatchObject({ code: 'secrets_unreadable' })
    await expect(openSecrets(store, issuer, options({ encryptionKeys: [two] }))).rejects.toThrow('none of the given')
  })

  it('are encrypted anew under the first key given, so that an old one can be dropped [T6]', async () => {
    const plain = await openSecrets(store, issuer, options())
    await openSecrets(store, issuer, options({ encryptionKeys: [one] }))
    await openSecrets(store, issuer, options({ encryptionKeys: [two, one] }))
    expect(await openSecrets(store, issuer, options({ encryptionKeys: [two] }))).toEqual(plain)
    await expect(openSecrets(store, issuer, options({ encryptionKeys: [one] }))).rejects.toThrow('none of the given')
  })

  it('come under another key in three rounds while several nodes read them, whichever starts when [T6]', async () => {
    const node = (...encryptionKeys: Uint8Array[]) => openSecrets(store, issuer, options({ encryptionKeys }))
    const [old, both, turned, fresh] = [[one], [one, two], [two, one], [two]]
    const plain = await node(...old)
    const rounds = [
      [old, both, old, both],
      [both, turned, both, turned],
      [turned, fresh, turned, fresh],
    ]
    for (const keys of rounds.flat()) expect(await node(...keys)).toEqual(plain)
    await expect(node(...old)).rejects.toThrow('none of the given')
  })

  it.each<[string, SecretsOptions]>([
    ['algorithms', { algorithms: ['HS256' as 'RS256'] }],
    ['algorithms', { algorithms: [] }],
    ['encryptionKeys', { encryptionKeys: [randomBytes(16)] }],
    ['jwksCache', { jwksCache: -1 }],
    ['sessionLifetime', { sessionLifetime: 0 }],
    ['sessionLifetime', JSON.parse('{"sessionLifetime":"31"}')],
    ['jwksCache', JSON.parse('{"jwksCache":true}')],
  ])('are refused a wrong option with a TypeError that names %s', async (name, wrong) => {
    await expect(openSecrets(store, issuer, wrong)).rejects.toThrow(TypeError)
    await expect(openSecrets(store, issuer, wrong)).rejects.toThrow(name)
  })
})
