import { describe, expect, it } from 'vitest'
import { browserState, maySetBrowserState } from '../../src/op/browser-state.ts'

const random = (bytes: number) => crypto.getRandomValues(new Uint8Array(bytes))
const none = (): never => {
  throw new Error('no chance is needed here')
}
const ada = { uid: 'uid-1', accountId: 'ada' }

describe('the browser state', () => {
  it('is the same on every node and at every time while one user stays signed in [SM-3.2-h]', () => {
    const state = browserState('secret', ada, undefined, none)
    expect(browserState('secret', { ...ada }, undefined, none)).toBe(state)
    expect(browserState('secret', ada, state, none)).toBe(state)
    expect(browserState('secret', ada, 'n.AAAAAAAAAAAAAAAAAAAAAA', none)).toBe(state)
  })

  it('differs per OP session, per account and per OP [SM-3.2-g]', () => {
    const states = [
      browserState('secret', ada, undefined, none),
      browserState('secret', { ...ada, uid: 'uid-2' }, undefined, none),
      browserState('secret', { ...ada, accountId: 'bob' }, undefined, none),
      browserState('another secret', ada, undefined, none),
    ]
    expect(new Set(states).size).toBe(4)
  })

  it('does not confuse an OP session and an account whose names run together [SM-3.2-g]', () => {
    const one = browserState('secret', { uid: 'ab', accountId: 'c' }, undefined, none)
    const other = browserState('secret', { uid: 'a', accountId: 'bc' }, undefined, none)
    expect(one).not.toBe(other)
  })

  it('tells nothing about user or OP session to who reads the cookie [SM-3.2-l]', () => {
    const state = browserState('secret', ada, undefined, none)
    expect(state).toMatch(/^a\.[\w-]{43}$/)
    expect(state).not.toContain('ada')
    expect(state).not.toContain('uid-1')
  })

  it('is random while nobody is signed in, and kept as long [SM-3.2-h]', () => {
    const state = browserState('secret', undefined, undefined, random)
    expect(state).toMatch(/^n\.[\w-]{22}$/)
    expect(browserState('secret', undefined, undefined, random)).not.toBe(state)
    expect(browserState('secret', undefined, state, none)).toBe(state)
  })

  it('is renewed after a logout [SM-3.2-g]', () => {
    const before = browserState('secret', ada, undefined, none)
    expect(browserState('secret', undefined, before, random)).toMatch(/^n\./)
  })

  it.each([
    '',
    'n.',
    'n.short',
    'n.AAAAAAAAAAAAAAAAAAAAA!',
    'a.AAAAAAAAAAAAAAAAAAAAAA',
    'n.AAAAAAAAAAAAAAAAAAAAAA ',
  ])('is not taken from a cookie that this OP cannot have set: %j', (cookie) => {
    expect(browserState('secret', undefined, cookie, random)).not.toBe(cookie)
  })
})

describe('the browser-state cookie', () => {
  it.each([
    [undefined, undefined, true],
    ['document', 'cross-site', true],
    ['document', 'none', true],
    ['empty', 'same-origin', true],
    ['empty', 'same-site', false],
    ['empty', 'cross-site', false],
    ['empty', undefined, false],
    ['iframe', 'same-origin', false],
    ['iframe', 'cross-site', false],
    ['frame', 'cross-site', false],
    ['image', 'cross-site', false],
  ])('for Sec-Fetch-Dest %s from %s: may be set is %s [browsers 3]', (dest, site, may) => {
    expect(maySetBrowserState(dest, site)).toBe(may)
  })
})
