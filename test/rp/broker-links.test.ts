import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type Link, type Links, openLinks } from '../../examples/broker/links.ts'
import type { UpstreamLogout } from '../../src/rp.ts'

/* Which OP sessions of examples/broker an upstream logout may mean. */

const iss = 'https://top.example'
let links: Links

beforeEach(() => {
  links = openLinks(':memory:')
})
afterEach(() => links.close())

function link(uid: string, parts: Partial<Link> = {}): void {
  links.put({ uid, rpSession: `rp ${uid}`, iss, sub: 'ada', sid: null, firstIat: 100, linkedAt: 101, ...parts })
}

function meant(logout: Partial<UpstreamLogout>): readonly string[] {
  const found = links.of({ iss, at: 200, cause: 'logout_token', rpSessions: [], ...logout })
  return found.map(({ uid }) => uid).sort()
}

describe('a logout upstream', () => {
  it('by sub means the logins of that End-User whose first ID Token is not younger, whenever they came to the broker', () => {
    link('before')
    link('same second', { firstIat: 200, linkedAt: 205 })
    link('after', { firstIat: 201 })
    link('of grace', { sub: 'grace' })
    link('of another OP', { iss: 'https://other.example' })
    expect(meant({ sub: 'ada', notAfter: 200 })).toEqual(['before', 'same second'])
  })

  it('by sid means that login, and by the sub beside it no other End-User', () => {
    link('one', { sid: 's' })
    link('two', { sid: 't' })
    link('three', { sid: 's', sub: 'grace' })
    expect(meant({ sid: 's', sub: 'ada' })).toEqual(['one'])
    expect(meant({ sid: 's' })).toEqual(['one', 'three'])
  })

  it('by a sid that is used again means no younger login', () => {
    link('before', { sid: 's' })
    link('after', { sid: 's', firstIat: 201 })
    expect(meant({ sid: 's', notAfter: 200 })).toEqual(['before'])
  })

  it('means what stems from the RP sessions that ended, under whatever sid and once', () => {
    link('one', { sid: 'old' })
    link('two', { sid: 'other' })
    expect(meant({ sid: 'new', rpSessions: ['rp one'] })).toEqual(['one'])
    expect(meant({ sid: 'old', rpSessions: ['rp one'] })).toEqual(['one'])
  })

  it('that names nobody means only what stems from the RP sessions that ended', () => {
    link('one')
    link('two')
    expect(meant({ rpSessions: ['rp two'] })).toEqual(['two'])
    expect(meant({ rpSessions: [] })).toEqual([])
  })
})
