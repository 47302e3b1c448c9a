import { setImmediate } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { readTogether } from '../../../src/rp/store/read-together.ts'

/** Reads that say what they were asked for and are answered when the test says so. */
function reading(most = 3) {
  const queries: (readonly string[])[] = []
  const read = readTogether(async (handles) => {
    queries.push(handles)
    if (handles.includes('broken')) throw new Error('no store')
    return new Map(handles.filter((handle) => handle !== 'unknown').map((handle) => [handle, `row of ${handle}`]))
  }, most)
  return { read, queries }
}

it('what is asked for in one turn is one query, each handle once, and each gets its own row or none', async () => {
  const { read, queries } = reading()
  const rows = await Promise.all(['a', 'b', 'a', 'unknown'].map(read))
  expect(rows).toEqual(['row of a', 'row of b', 'row of a', undefined])
  expect(queries).toEqual([['a', 'b', 'unknown']])
})

it('a query has no more handles than it may have', async () => {
  const { read, queries } = reading()
  await Promise.all(['a', 'b', 'c', 'd', 'e', 'f', 'g'].map(read))
  expect(queries).toEqual([['a', 'b', 'c'], ['d', 'e', 'f'], ['g']])
})

it('whoever asks after a query was sent is answered by another: it may be about what happened in between', async () => {
  const { read, queries } = reading()
  const first = read('a')
  await setImmediate()
  const second = read('a')
  expect(await Promise.all([first, second])).toEqual(['row of a', 'row of a'])
  expect(queries).toEqual([['a'], ['a']])
})

it('a query that fails fails those who are in it, and no others', async () => {
  const { read } = reading(2)
  const answers = await Promise.allSettled(['a', 'broken', 'b'].map(read))
  expect(answers.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'fulfilled'])
})
