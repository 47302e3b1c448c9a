import { createSocket } from 'node:dgram'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { type NameParts, nameResolver } from '../../src/runtime/resolve-names.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

type Found = Awaited<ReturnType<ReturnType<typeof nameResolver>>>

/** A name server on loopback: it knows one address, says of `unknown.` names that there are none, and of the rest nothing. */
async function nameServer(): Promise<{ servers: string[]; asked: string[] }> {
  const asked: string[] = []
  const socket = createSocket('udp4')
  socket.on('message', (query, { port, address }) => {
    const labels: string[] = []
    let at = 12
    for (let length = query[at] ?? 0; length > 0; length = query[at] ?? 0) {
      labels.push(query.toString('latin1', at + 1, at + 1 + length))
      at += length + 1
    }
    const name = labels.join('.')
    asked.push(name)
    const isA = query.readUInt16BE(at + 1) === 1
    const answer = Buffer.from(query.subarray(0, at + 5))
    const isKnown = name.startsWith('known.')
    if (!isKnown && !name.startsWith('unknown.')) return
    answer.writeUInt16BE(isKnown ? 0x8180 : 0x8183, 2)
    answer.writeUInt16BE(isKnown && isA ? 1 : 0, 6)
    answer.writeUInt16BE(0, 10)
    const record = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 93, 184, 216, 34])
    socket.send(isKnown && isA ? Buffer.concat([answer, record]) : answer, port, address)
  })
  await new Promise<void>((done) => socket.bind(0, '127.0.0.1', done))
  cleanups.push(() => socket.close())
  return { servers: [`127.0.0.1:${socket.address().port}`], asked }
}

/** The machine's own resolver: it notes who is asked for, and answers when the test says so. */
function machine(): { system: NonNullable<NameParts['system']>; asked: string[]; answer(hostname: string): void } {
  const asked: string[] = []
  const answers = new Map<string, (found: Found) => void>()
  return {
    system: (hostname) =>
      new Promise((resolve) => {
        asked.push(hostname)
        answers.set(hostname, resolve)
      }),
    asked,
    answer: (hostname) => answers.get(hostname)?.([{ address: '10.1.1.1', family: 4 }]),
  }
}

const until = async (isSo: () => boolean): Promise<void> => {
  while (!isSo()) await new Promise((done) => setImmediate(done))
}

describe('names that others wrote', () => {
  it('are found although the name servers of many others hang [T8] [T25]', async () => {
    const { servers, asked } = await nameServer()
    const { system, asked: machineAsked } = machine()
    const resolve = nameResolver({ isVouchedFor: () => false, servers, system })
    const hanging = Array.from({ length: 20 }, (_, i) => resolve(`rp${i}.hangs.example`))
    const fates = Promise.allSettled(hanging)
    await until(() => new Set(asked).size === 20)
    expect(await resolve('known.example')).toEqual([{ address: '93.184.216.34', family: 4 }])
    for (const fate of await fates) expect(fate).toMatchObject({ status: 'rejected', reason: { code: 'ETIMEOUT' } })
    expect(machineAsked, 'a name that hangs takes no thread').toEqual([])
  }, 60_000)

  it('are asked of the machine, one at a time, when DNS does not know them', async () => {
    const { servers } = await nameServer()
    const { system, asked, answer } = machine()
    const resolve = nameResolver({ isVouchedFor: () => false, servers, system })
    const [first, second] = [resolve('unknown.one.example'), resolve('unknown.two.example')]
    await until(() => asked.length > 0)
    expect(await resolve('known.example')).toHaveLength(1)
    expect(asked).toHaveLength(1)
    answer(asked[0] ?? '')
    await until(() => asked.length === 2)
    answer(asked[1] ?? '')
    expect(await Promise.all([first, second])).toHaveLength(2)
    expect([...asked].sort()).toEqual(['unknown.one.example', 'unknown.two.example'])
  })

  it('are asked for once by all that want them at once', async () => {
    const { system, asked, answer } = machine()
    const resolve = nameResolver({ isVouchedFor: () => true, system })
    const both = [resolve('mail.intranet.example'), resolve('mail.intranet.example')]
    await until(() => asked.length > 0)
    answer('mail.intranet.example')
    const [one, other] = await Promise.all(both)
    expect(one).toBe(other)
    expect(asked).toEqual(['mail.intranet.example'])
  })

  it('come from the machine first where its hosts file, its own network or the operator knows them', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'lockstep-hosts-'))
    cleanups.push(() => rm(folder, { recursive: true }))
    const hostsFile = join(folder, 'hosts')
    await writeFile(hostsFile, '# known.example\n10.1.1.1\tMail.Example mail # mine\n')
    const { servers } = await nameServer()
    const asked: string[] = []
    const system = async (hostname: string): Promise<Found> => {
      asked.push(hostname)
      return [{ address: '10.1.1.1', family: 4 }]
    }
    const resolve = nameResolver({ isVouchedFor: (name) => name === 'vouched.example', servers, hostsFile, system })
    for (const name of ['mail.example', 'mail.example.', 'localhost', 'db', 'vouched.example']) {
      expect(await resolve(name)).toEqual([{ address: '10.1.1.1', family: 4 }])
    }
    expect(asked).toEqual(['mail.example', 'mail.example.', 'localhost', 'db', 'vouched.example'])
    expect(await resolve('known.example')).toEqual([{ address: '93.184.216.34', family: 4 }])
  })
})
