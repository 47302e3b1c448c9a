import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { safeReturnTo } from '../../src/rp/return-to.ts'

const app = { origin: 'https://notes.example', home: '/', base: '/auth' }

describe('return_to', () => {
  it.each([
    '/',
    '/notes',
    '/notes?a=1&b=//x',
    '/notes#part',
    '/a//b',
    '/authors',
    '/%2f%2fevil.example',
    `/${'x'.repeat(900)}`,
    '/?u=https://evil.example',
  ])('may lead to %s', (path) => {
    expect(safeReturnTo(path, app)).toBe(app.origin + path)
  })

  it.each([
    undefined,
    '',
    'notes',
    'https://evil.example',
    'https://notes.example/x',
    '//evil.example',
    '///evil.example',
    '////evil.example',
    '/\\evil.example',
    '\\/evil.example',
    '\\\\evil.example',
    '/\t/evil.example',
    '/\n/evil.example',
    '/\r\n/evil.example',
    '\t//evil.example',
    ' //evil.example',
    '/.//evil.example',
    '/..//evil.example',
    '/x/..//evil.example',
    '/./\\evil.example',
    '/%2e//evil.example',
    '/%2e%2e//evil.example',
    'javascript:alert(1)',
    'java\nscript:alert(1)',
    'data:text/html,x',
    '@evil.example',
    '/@evil.example\\x',
    ';//evil.example',
    '.evil.example',
    '/\u0000/evil.example',
    '/\u0085/evil.example',
    '/auth',
    '/auth/login',
    '/auth/logout?from=everywhere',
    '/x/../auth/login',
    `/${'x'.repeat(1000)}`,
    `/notes?q=${'ü'.repeat(400)}`, // six characters each in a URL
  ])('that is %j leads to the start page [RFC 9700 §4.11] [A57]', (value) => {
    expect(safeReturnTo(value, app)).toBe('https://notes.example/')
  })

  it('never leads off the app, nor to a route of ours, whatever it is [RFC 9700 §4.11] [A57]', () => {
    const piece = fc.constantFrom(
      '/',
      '\\',
      '.',
      '..',
      '%2e',
      '%2f',
      '@',
      ':',
      '?',
      '#',
      '\t',
      '\n',
      ' ',
      'evil.example',
      'auth',
      'https',
      ';',
      'é',
    )
    fc.assert(
      fc.property(
        fc.oneof(
          fc.array(piece).map((pieces) => pieces.join('')),
          fc.string({ unit: 'binary' }),
        ),
        (value) => {
          const url = new URL(safeReturnTo(value, app))
          expect(url.origin).toBe(app.origin)
          expect(url.pathname).not.toMatch(/^\/\/|^\/auth(\/|$)/)
        },
      ),
      { numRuns: 5000 },
    )
  })
})
