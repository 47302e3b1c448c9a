import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'

it('an OP whose application has not installed OpenTelemetry works, and says nothing about it', async () => {
  const script = new URL('without-opentelemetry.ts', import.meta.url).pathname
  const { stdout } = await promisify(execFile)(process.execPath, ['-C', '@lockstep/source', script])
  const { state, deliveries, log } = JSON.parse(stdout.trim().split('\n').at(-1) ?? '')
  expect(state).toBe('running')
  expect(deliveries).toEqual([])
  expect(log.filter((event: string) => event !== 'end_job_done')).toEqual([])
})
