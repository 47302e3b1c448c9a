import { afterEach, expect, it, vi } from 'vitest'
import { readText } from '../../src/browser/read-text.ts'
import { fakeBackend, fakeWorld, hanging, settle } from './fake-world.ts'
import { alive, openTab } from './open-tab.ts'

afterEach(() => vi.restoreAllMocks())

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

it('works where there is no AbortSignal.any (Safari before 17.4), and is told to stop there as well', async () => {
  vi.spyOn(AbortSignal, 'any').mockImplementation(() => {
    throw new TypeError('AbortSignal.any is not a function')
  })
  const backend = fakeBackend(alive)
  const { monitor, world } = await openTab(backend)
  expect(monitor.state).toBe('alive')
  expect(backend.streams).toBe(1)
  backend.failWith(hanging, 'session')
  void monitor.check()
  await settle()
  monitor.stop()
  await settle()
  expect(backend.streams).toBe(0)
  expect(world.leftovers()).toBe(0)
})

it('asks nothing when it was told to stop before', async () => {
  const fetched = vi.fn(async () => new Response('{}'))
  const world = fakeWorld({ backend: { fetch: fetched } })
  for await (const piece of readText(world, 'https://app.example/auth/session', 1_000, AbortSignal.abort())) {
    expect.unreachable(piece)
  }
  expect(fetched).not.toHaveBeenCalled()
  expect(world.leftovers()).toBe(0)
})
