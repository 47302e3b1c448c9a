import { expect, it } from 'vitest'
import { readText } from '../../src/browser/read-text.ts'
import { fakeWorld } from './fake-world.ts'

it('takes the cookie of a backend along that has an origin of its own', async () => {
  const asked: RequestInit[] = []
  const world = fakeWorld({
    backend: {
      async fetch(_url, init) {
        asked.push(init)
        return new Response('{"state":"none"}')
      },
    },
  })
  const pieces: string[] = []
  for await (const piece of readText(
    world,
    'https://api.app.example/auth/session',
    1_000,
    new AbortController().signal,
  ))
    pieces.push(piece)
  expect(pieces).toEqual(['{"state":"none"}'])
  expect(asked).toMatchObject([{ credentials: 'include', cache: 'no-store', redirect: 'error' }])
})
