import { execFile } from 'node:child_process'
import { resolve } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { hasPostgres } from './support/postgres.ts'
import { hasRedis } from './support/redis.ts'

const root = resolve(import.meta.dirname, '..')
const run = promisify(execFile)

/** Runs the short form of a bench: it shows that the bench works, and says nothing of speed. */
async function runShort(name: string): Promise<{ figures: { id: string; ours: number; peer: number | null }[] }> {
  const bench = ['-C', '@lockstep/source', 'bench/main.ts', name, '--short', '--json']
  const { stdout } = await run(process.execPath, bench, { cwd: root })
  return JSON.parse(stdout)
}

describe('the short form of a bench runs and measures:', () => {
  it.skipIf(!hasRedis)('rp-logout (Redis)', async () => {
    const { figures } = await runShort('rp-logout')
    for (const id of ['logouts, ES256, redis', 'logouts, RS256, memory: share of a bare server with jose']) {
      expect(figures.map((figure) => figure.id)).toContain(id)
    }
    for (const { ours } of figures) expect(ours).toBeGreaterThan(0)
    expect(figures.find(({ id }) => id.startsWith('round trips'))).toMatchObject({ ours: 1, peer: 2 })
  })

  it.skipIf(!hasRedis || !hasPostgres)('scale (Redis, PostgreSQL)', async () => {
    const { figures } = await runShort('scale')
    for (const kind of ['memory', 'sqlite', 'redis', 'postgres']) {
      expect(figures.map(({ id }) => id)).toContain(`${kind}: end by sid, 1,000 RP sessions`)
    }
    for (const { ours } of figures) expect(ours).toBeGreaterThan(0)
  })

  it.skipIf(!hasRedis || !hasPostgres)('streams (Redis, PostgreSQL)', async () => {
    const { figures } = await runShort('streams')
    for (const kind of ['redis', 'postgres']) {
      expect(figures.map(({ id }) => id)).toContain(`${kind}, 80 tabs: the last tab hears, hints just broken`)
    }
    for (const { ours } of figures) expect(ours).toBeGreaterThanOrEqual(0)
  })

  it('op-overhead', async () => {
    const { figures } = await runShort('op-overhead')
    expect(figures.map(({ id }) => id)).toContain('discovery')
    for (const { ours, peer } of figures) expect([ours > 0, (peer ?? 0) > 0]).toEqual([true, true])
  })

  it('fan-out: at whatever speed, both tell everyone [design §9]', async () => {
    const { figures } = await runShort('fan-out')
    for (const { ours } of figures) expect(ours).toBeGreaterThan(0)
    const told = figures.filter(({ id }) => id.startsWith('RPs told'))
    expect(told.map(({ ours, peer }) => [ours, peer])).toEqual([
      [1, 1],
      [1, 1],
    ])
  })
})
