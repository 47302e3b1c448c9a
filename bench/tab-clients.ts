import { Agent, type ClientRequest, get, type IncomingMessage } from 'node:http'

/** A tab that a script plays: an RP session of its own and the stream that its page would hold. */
export interface ScriptedTab {
  readonly account: string
  /** Milliseconds of the epoch, with fractions, at which it heard that it is signed out. */
  readonly ended: Promise<number>
  close(): void
}

const agent = new Agent({ keepAlive: true, maxSockets: 20 })

/** Signs somebody new in, as a browser would, and listens. */
export async function openScriptedTab(notes: string): Promise<ScriptedTab> {
  const cookies = new Map<string, string>()
  let url = new URL('/auth/login?return_to=/tab', notes)
  while (url.pathname !== '/tab') {
    const response = await ask(url, cookies, agent)
    response.resume()
    const { location } = response.headers
    if (location === undefined) throw new Error(`${url.pathname} answered ${response.statusCode} and led nowhere`)
    for (const line of response.headers['set-cookie'] ?? []) {
      const [pair = ''] = line.split(';')
      const [name = ''] = pair.split('=', 1)
      cookies.set(name, pair.slice(name.length + 1))
    }
    url = new URL(location, url)
  }
  const stream = await ask(new URL('/auth/session/events', notes), cookies)
  const alive = Promise.withResolvers<string>()
  const ended = Promise.withResolvers<number>()
  let rest = ''
  stream.setEncoding('utf8').on('data', (text: string) => {
    const lines = (rest + text).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) {
      if (!line.startsWith('data:')) continue
      const document = JSON.parse(line.slice(5))
      if (document.state === 'alive') alive.resolve(document.sub)
      else ended.resolve(performance.timeOrigin + performance.now())
    }
  })
  stream.once('error', () => undefined) // closed by us
  return { account: await alive.promise, ended: ended.promise, close: () => stream.destroy() }
}

function ask(url: URL, cookies: ReadonlyMap<string, string>, agent?: Agent): Promise<IncomingMessage> {
  const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join('; ')
  return new Promise((resolve, reject) => {
    const request: ClientRequest = get(url, { headers: { cookie }, agent: agent ?? false }, resolve)
    request.once('error', reject)
  })
}
