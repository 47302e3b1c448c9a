import { describe, expect, it } from 'vitest'
import { seal, unseal } from '../../../src/op/secrets/sealed-request.ts'

const key = new Uint8Array(32).fill(7)
const now = 1_800_000_000_000
const pending = {
  uid: 'uid-1',
  clientId: 'notes',
  postLogoutRedirectUri: 'http://notes.example/bye',
  state: '<"&> \u0000ü',
}

describe('a pending logout', () => {
  it('comes out as it went in', async () => {
    expect(await unseal('question', await seal('question', pending, key, now), key, now)).toEqual(pending)
  })

  it('shows the browser nothing of itself [T6]', async () => {
    const sealed = await seal('question', pending, key, now)
    const decoded = sealed
      .split('.')
      .map((part) => Buffer.from(part, 'base64url').toString('latin1'))
      .join()
    expect(decoded).not.toContain('uid-1')
    expect(decoded).not.toContain('notes')
  })

  it('is open for 15 minutes, and for one more by the clock of another node', async () => {
    const sealed = await seal('question', pending, key, now)
    expect(await unseal('question', sealed, key, now + 959_000)).toEqual(pending)
    expect(await unseal('question', sealed, key, now + 961_000)).toBeUndefined()
  })

  it('does not open with the key of another OP [T20]', async () => {
    const sealed = await seal('question', pending, key, now)
    expect(await unseal('question', sealed, new Uint8Array(32).fill(8), now)).toBeUndefined()
  })

  it('does not open when one character was changed', async () => {
    const sealed = await seal('question', pending, key, now)
    const parts = sealed.split('.')
    const other = parts
      .map((part, i) => (i === 3 ? (part.startsWith('A') ? 'B' : 'A') + part.slice(1) : part))
      .join('.')
    expect(await unseal('question', other, key, now)).toBeUndefined()
  })

  it.each([
    '',
    'x',
    '....',
    'a.b.c',
    'eyJhbGciOiJub25lIn0.eyJwZW5kaW5nIjp7fX0.',
    '%',
    '\u0000',
  ])('is refused without an exception when it is %j', async (sealed) => {
    expect(await unseal('question', sealed, key, now)).toBeUndefined()
  })
})
