/* A process with many RPs in it that say when they were told. Started by fan-out.ts; each RP has an address of its own. */
import { createServer, type Server } from 'node:http'
import { type AddressInfo, createServer as createTcpServer } from 'node:net'
import { performance } from 'node:perf_hooks'

/** How an RP takes a Logout Token: well, never, at no port, or with 500 the first time. */
export type RpHealth = 'well' | 'hangs' | 'refuses' | 'fails once'

/**
 * What the RPs are asked: to be so many, how some of them are, what they have heard since they were asked last, or to close the
 * connections that are kept open.
 */
export type RpsOrder =
  | { readonly start: number }
  | { readonly sick: Readonly<Record<number, RpHealth>> }
  | 'heard'
  | 'hang up'

/** When each POST that was answered with 200 came: the RP's number, and epoch milliseconds with their fraction. */
export type Heard = readonly (readonly [number, number])[]

const servers: Server[] = []
let health: Readonly<Record<number, RpHealth>> = {}
let heard: [number, number][] = []
const failed = new Set<number>()

process.on('message', (order: RpsOrder) => {
  if (order === 'heard') {
    process.send?.({ answer: heard })
    heard = []
  } else if (order === 'hang up') {
    for (const server of servers) server.closeIdleConnections()
    process.send?.({ answer: true })
  } else if ('sick' in order) {
    health = order.sick
    failed.clear()
    process.send?.({ answer: true })
  } else void start(order.start)
})
process.on('disconnect', () => process.exit(0))
process.send?.({ answer: 'here' })

async function start(count: number): Promise<void> {
  const urls: string[] = []
  while (servers.length < count) {
    const index = servers.length
    const address = `127.2.${Math.floor(index / 250)}.${1 + (index % 250)}`
    const server = createServer((request, response) => {
      const at = performance.timeOrigin + performance.now()
      request.resume().on('end', () => {
        if (health[index] === 'hangs') return
        if (health[index] === 'fails once' && !failed.has(index)) {
          failed.add(index)
          response.writeHead(500).end()
          return
        }
        if (request.method === 'POST') heard.push([index, at])
        response.writeHead(200, { 'logout-sessions-ended': '1' }).end()
      })
    })
    await new Promise<void>((resolve) => server.listen(0, address, resolve))
    servers.push(server)
  }
  for (const server of servers) {
    const { address, port } = server.address() as AddressInfo
    urls.push(`http://${address}:${port}/logout`)
  }
  process.send?.({ answer: { urls, refusing: await portOfNobody() } })
}

/** A port of loopback at which nobody listens. */
async function portOfNobody(): Promise<number> {
  const server = createTcpServer()
  await new Promise<void>((resolve) => server.listen(0, '127.2.255.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}
