import { describe, expect, it } from 'vitest'
import { mustAsk, postLogoutRedirect } from '../../../src/op/logout/logout-request.ts'

const hint = { sid: 'sid-1', sub: 'ada' }
const current = { sid: 'sid-1', sub: 'ada' }
const navigation = { method: 'GET', secFetchDest: 'document', secPurpose: undefined }

describe('the End-User', () => {
  it('is not asked when a navigation brings a hint of this OP session and this user [RPI-2-o]', () => {
    expect(mustAsk({ hint, current, ...navigation })).toBe(false)
    expect(mustAsk({ hint, current, ...navigation, method: 'POST' })).toBe(false)
  })

  it.each([
    ['there is no hint', { hint: undefined }],
    ['the hint has no sid', { hint: { ...hint, sid: undefined } }],
    ['the hint has no sub', { hint: { ...hint, sub: undefined } }],
    ['the hint is of another OP session', { hint: { ...hint, sid: 'sid-2' } }],
    ['the hint is of another user', { hint: { ...hint, sub: 'bob' } }],
    ['this OP session never logged in at the client', { current: { sid: undefined, sub: 'ada' } }],
    [
      'the hint and the OP session both lack a sid',
      { hint: { sid: undefined, sub: 'ada' }, current: { sid: undefined, sub: 'ada' } },
    ],
    ['the pairwise sub cannot be told', { current: { sid: 'sid-1', sub: undefined } }],
    ['neither side has a sub', { hint: { sid: 'sid-1', sub: undefined }, current: { sid: 'sid-1', sub: undefined } }],
    ['the browser does not say what it loads', { secFetchDest: undefined }],
    ['an image asks', { secFetchDest: 'image' }],
    ['a script asks', { secFetchDest: 'script' }],
    ['a fetch asks', { secFetchDest: 'empty' }],
    ['an iframe asks', { secFetchDest: 'iframe' }],
    ['it is a prefetch', { secPurpose: 'prefetch' }],
    ['it is a HEAD, by which nothing may happen', { method: 'HEAD' }],
    ['it is a prerender', { secPurpose: 'prefetch;prerender' }],
  ])('is asked when %s [RPI-2-o] [T12]', (_when, different) => {
    expect(mustAsk({ hint, current, ...navigation, ...different })).toBe(true)
  })
})

describe('the post-logout redirect', () => {
  it('leaves the URI alone when no state was sent [RPI-2-i]', () => {
    expect(postLogoutRedirect({ uri: 'https://rp.example/Bye?a=b', state: undefined })).toBe(
      'https://rp.example/Bye?a=b',
    )
  })

  it.each([
    'https://rp.example/bye',
    'https://rp.example/bye?a=b',
    'com.example.app:/bye',
    'https://rp.example/bye?',
  ])('appends state to %s and keeps what was there [RPI-2-i]', (uri) => {
    const to = postLogoutRedirect({ uri, state: '<"&> #%+;~ü\u0000' })
    expect(to.startsWith(uri)).toBe(true)
    expect(new URL(to).searchParams.get('state')).toBe('<"&> #%+;~ü\u0000')
  })

  it('sends an empty state back as an empty state [RPI-2-i]', () => {
    expect(postLogoutRedirect({ uri: 'https://rp.example/bye', state: '' })).toBe('https://rp.example/bye?state=')
  })
})
