import { expect, it } from 'vitest'
import { refusedStart } from './server-program.ts'

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
