import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { expect, it } from 'vitest'

it('the fan-out bench runs, and says what it measured in the form that all benches have [design §9]', async () => {
  const child = spawn(process.execPath, ['-C', '@lockstep/source', 'bench/main.ts', 'fan-out', '--short', '--json'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const gone = once(child, 'exit')
  const report: unknown = JSON.parse(await text(child.stdout))
  expect((await gone)[0]).toBe(0)
  expect(report).toMatchObject({ name: 'fan-out', date: expect.any(String), noisy: expect.any(Boolean) })
  const { figures } = report as { figures: { id: string; ours: unknown; peer: unknown; goal: unknown; met: unknown }[] }
  expect(figures.map(({ ours }) => typeof ours)).toEqual(figures.map(() => 'number'))
  // at whatever speed: everyone is told, by both
  const told = figures.filter(({ id }) => id.startsWith('RPs told'))
  expect(told.map(({ ours, peer }) => [ours, peer])).toEqual([
    [1, 1],
    [1, 1],
  ])
}, 600_000)
