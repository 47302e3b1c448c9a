import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { base64url, computeSessionState, parseStatusRequest } from '../../src/protocol/session-state.ts'

const sha256 = async (text: string): Promise<Uint8Array<ArrayBuffer>> =>
  new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text)))

describe('session_state', () => {
  it('is the unpadded base64url SHA-256 of client, origin, browser state and salt, then a dot and the salt [SM §2]', async () => {
    const input = { clientId: 's6BhdRkqt3', origin: 'https://rp.example', browserState: 'n.abc', salt: 'Zm9v' }
    // printf 's6BhdRkqt3 https://rp.example n.abc Zm9v' | openssl dgst -sha256 -binary | basenc --base64url | tr -d =
    expect(await computeSessionState(input, sha256)).toBe('N5CA44oQfTMq7YW939Ewfwqv_0Hi9por2ptrgStuks0.Zm9v')
  })

  it.each([
    { clientId: 'an app with spaces', origin: 'https://rp.example:8443', browserState: 'a.-_x', salt: 'c2FsdA' },
    { clientId: 'ünïcödé-✓', origin: 'http://localhost:4001', browserState: 'n.0', salt: '1' },
    { clientId: '', origin: 'null', browserState: '', salt: 'only-the-salt' },
  ])('agrees with another implementation for $clientId [SM §2]', async (input) => {
    const { clientId, origin, browserState, salt } = input
    const hash = createHash('sha256')
      .update(`${clientId} ${origin} ${browserState} ${salt}`, 'utf8')
      .digest('base64url')
    expect(await computeSessionState(input, sha256)).toBe(`${hash}.${salt}`)
  })

  it('changes when any one of its inputs changes [SM §2]', async () => {
    const input = { clientId: 'notes', origin: 'https://notes.example', browserState: 'a.1', salt: 's' }
    const states = await Promise.all(
      [
        input,
        { ...input, clientId: 'mail' },
        { ...input, origin: 'https://mail.example' },
        { ...input, browserState: 'a.2' },
        { ...input, salt: 't' },
      ].map((each) => computeSessionState(each, sha256)),
    )
    expect(new Set(states.map((state) => state.split('.')[0])).size).toBe(5)
  })

  it('never contains a space or padding, whatever the hash [SM-2-c]', async () => {
    for (let byte = 0; byte < 256; byte++) {
      const hash = new Uint8Array(32).fill(byte)
      const state = await computeSessionState(
        { clientId: 'c', origin: 'o', browserState: 'b', salt: 's' },
        async () => hash,
      )
      expect(state).toMatch(/^[\w-]{43}\.s$/)
      expect(Buffer.from(state.slice(0, 43), 'base64url')).toEqual(Buffer.from(hash))
    }
  })
})

describe('base64url', () => {
  it.each([
    [[], ''],
    [[0], 'AA'],
    [[0xfb, 0xff], '-_8'],
    [[0xff, 0xff, 0xfe], '___-'],
  ])('encodes %j as RFC 4648 §5 without padding', (bytes, text) => {
    expect(base64url(new Uint8Array(bytes))).toBe(text)
  })
})

describe('a status request', () => {
  it('is split at its last space, since a Client ID may contain spaces [SM-3.1-c]', () => {
    expect(parseStatusRequest('my little app hash.salt')).toEqual({
      clientId: 'my little app',
      sessionState: 'hash.salt',
      salt: 'salt',
    })
  })

  it('takes the salt from behind the last dot [SM §3.1]', () => {
    expect(parseStatusRequest('app ha.sh.salt')).toEqual({ clientId: 'app', sessionState: 'ha.sh.salt', salt: 'salt' })
  })

  it.each([
    ['nothing', ''],
    ['only a space', ' '],
    ['no space', 'apphash.salt'],
    ['no Client ID', ' hash.salt'],
    ['no session_state', 'app '],
    ['no salt', 'app hash'],
    ['an empty salt', 'app hash.'],
    ['an empty hash', 'app .salt'],
    ['something huge', `app ${'h'.repeat(5000)}.salt`],
    ['an object', { clientId: 'app', sessionState: 'hash.salt' }],
    ['an array', ['app hash.salt']],
    ['a number', 42],
    ['null', null],
    ['undefined', undefined],
  ])('that is %s is malformed [SM-3.2-d]', (_name, message) => {
    expect(parseStatusRequest(message)).toBeUndefined()
  })
})
