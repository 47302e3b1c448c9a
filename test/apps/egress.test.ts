import { once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { expect, it, onTestFinished } from 'vitest'
import { ConfigError } from '../../apps/server/config-error.ts'
import { browser, configOf, fileFor, freePort, loginUrl, running, startApp } from './support.ts'

/** A CONNECT proxy that leads every name to one port of this machine. */
async function startProxy(to: number): Promise<{ url: string; asked: string[] }> {
  const asked: string[] = []
  const sockets = new Set<Socket>()
  const server = createServer()
  server.on('connect', (request: IncomingMessage, client: Socket) => {
    asked.push(request.url ?? '')
    const target = connect(to, '127.0.0.1', () => {
      client.write('HTTP/1.1 200 OK\r\n\r\n')
      target.pipe(client).pipe(target)
    })
    for (const socket of [client, target]) sockets.add(socket.on('error', () => target.destroy()))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked }
}

it('the server tells apps through the proxy of its configuration file, which is told their names [T25]', async () => {
  const app = await startApp()
  const port = await freePort()
  const proxy = await startProxy(Number(new URL(app.origin).port))
  const file = fileFor(port, app.origin)
  const [client] = file.clients as object[]
  const config = configOf({
    ...file,
    clients: [{ ...client, backchannel_logout_uri: 'http://notes.internal/backchannel' }],
    egress: { allow: ['notes.internal'], proxy: proxy.url, proxyEnforces: true },
  })
  await running(config)
  const tab = browser()
  await tab.submit(await tab.open(loginUrl(config.issuer, app.origin)), { username: 'ada', password: 'analytical' })
  await tab.submit(await tab.open(`${config.issuer}/session/end`), { answer: 'yes' })
  await expect.poll(() => app.logoutTokens.length).toBe(1)
  expect(proxy.asked).toEqual(['notes.internal:80'])
})

it.each([
  ['proxy', 'not a URL'],
  ['proxy', 'socks5://proxy.internal:1080'],
  ['proxyEnforces', 'yes'],
])('egress.%s that is %j is refused with its name', (key, value) => {
  const content = { ...fileFor(4000, 'http://127.0.0.1:4001'), egress: { allow: [], [key]: value } }
  expect(() => configOf(content)).toThrow(ConfigError)
  expect(() => configOf(content)).toThrow(`egress.${key}`)
})
