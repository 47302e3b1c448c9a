import { describe, expect, it } from 'vitest'
import { createSealer } from '../../src/rp/seal.ts'

const [old, fresh] = ['o'.repeat(32), 'f'.repeat(32)]

describe('sealed texts', () => {
  it('open with the secret and for the purpose they were sealed with, and show nothing [T6]', async () => {
    const sealer = createSealer([old])
    const text = await sealer.seal('tokens', { idToken: 'secret token' })
    expect(await sealer.open('tokens', text)).toEqual({ idToken: 'secret token' })
    expect(await sealer.open('login', text)).toBeUndefined()
    expect(await createSealer([fresh]).open('tokens', text)).toBeUndefined()
    expect(Buffer.from(text, 'base64url').toString('latin1')).not.toContain('secret token')
    expect(text).not.toContain('secret')
  })

  it('still open after a new secret was put first [T6] [A63]', async () => {
    const text = await createSealer([old]).seal('tokens', 1)
    const rotated = createSealer([fresh, old])
    expect(await rotated.open('tokens', text)).toBe(1)
    expect(await createSealer([old]).open('tokens', await rotated.seal('tokens', 2))).toBeUndefined()
  })

  it('do not open once a character was changed', async () => {
    const sealer = createSealer([old])
    const text = await sealer.seal('tokens', 1)
    // Not the last character of all: its low bits are padding and mean nothing.
    const [header, , iv, ciphertext, tag = ''] = text.split('.')
    const forged = `${header}..${iv}.${ciphertext}.${tag.startsWith('A') ? 'B' : 'A'}${tag.slice(1)}`
    for (const wrong of ['', 'x', forged, text.replace('.', '.x')]) {
      expect(await sealer.open('tokens', wrong)).toBeUndefined()
    }
  })
})
