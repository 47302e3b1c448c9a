import { afterEach, describe, expect, it } from 'vitest'
import { logoutUrl } from './relying-party.ts'
import { type OpUnderTest, refusedStart, startOp } from './server-program.ts'

const notes = {
  client_id: 'notes',
  client_secret: 'a secret that both sides know',
  redirect_uris: ['https://notes.example/cb'],
}

it.each([
  ['a backchannel_logout_uri that is relative', { backchannel_logout_uri: '/backchannel' }],
  ['a post_logout_redirect_uri that is relative', { post_logout_redirect_uris: ['/bye'] }],
  ['a post_logout_redirect_uri with a fragment', { post_logout_redirect_uris: ['https://notes.example/bye#part'] }],
])('refuses a client with %s [BCL-2.2-a] [RPI-3.1-a] [RPI-4-a]', async (_what, metadata) => {
  const { code, said } = await refusedStart([{ ...notes, ...metadata }])
  expect(code).toBe(2)
  expect(said).toContain('client "notes" is refused')
})

it('refuses an http post_logout_redirect_uri of a public client [RPI-2-h]', async () => {
  const { client_secret: _secret, ...board } = notes
  const { code, said } = await refusedStart([
    { ...board, token_endpoint_auth_method: 'none', post_logout_redirect_uris: ['http://notes.example/bye'] },
  ])
  expect(code).toBe(2)
  expect(said).toContain('client "notes" is refused')
})

describe('a post_logout_redirect_uri', () => {
  const apps = { client_secret: notes.client_secret, redirect_uris: notes.redirect_uris }
  let op: OpUnderTest
  afterEach(() => op.close())

  it.each([
    ['https', 'https://notes.example/bye', {}],
    ['http of a client with a secret', 'http://notes.example/bye', {}],
    [
      'a scheme of a native app',
      'org.example.notes:/bye',
      { application_type: 'native', redirect_uris: ['org.example.notes:/cb'] },
    ],
  ])('may be %s, and a logout request may name it [RPI-2-h]', async (_what, uri, more) => {
    op = await startOp([{ ...apps, client_id: 'notes', post_logout_redirect_uris: [uri], ...more }])
    const named = (post_logout_redirect_uri: string) =>
      fetch(logoutUrl(op, { client_id: 'notes', post_logout_redirect_uri }), { redirect: 'manual' })
    expect((await named(uri)).status).toBe(303)
    expect((await named(`${uri}?`)).status).toBe(400)
  })
})
