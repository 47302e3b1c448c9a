import { expect, it } from 'vitest'
import { isSameOrigin } from '../../src/op.ts'

const issuer = 'https://login.example.com/oidc'

it.each([
  ['both headers say so', { origin: 'https://login.example.com', 'sec-fetch-site': 'same-origin' }],
  ['an old browser sends Origin only', { origin: 'https://login.example.com' }],
  ['Origin was taken out on the way', { 'sec-fetch-site': 'same-origin' }],
])('a form is from the OP’s own page when %s [T5]', (_when, headers) => {
  expect(isSameOrigin(headers, issuer)).toBe(true)
})

it.each([
  ['another site sends it', { origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' }],
  ['another site sends it, by Origin only', { origin: 'https://evil.example' }],
  ['a host beside the OP sends it', { origin: 'https://blog.example.com', 'sec-fetch-site': 'same-site' }],
  ['the same host on another port sends it', { origin: 'https://login.example.com:8443' }],
  ['a sandboxed frame sends it', { origin: 'null' }],
  ['the user typed it', { 'sec-fetch-site': 'none' }],
  ['the two headers contradict each other', { origin: 'https://login.example.com', 'sec-fetch-site': 'cross-site' }],
  ['nothing says where it comes from', {}],
])('it is not when %s [T5]', (_when, headers) => {
  expect(isSameOrigin(headers, issuer)).toBe(false)
})
