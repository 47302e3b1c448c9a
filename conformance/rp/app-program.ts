import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { generateKeyPair } from 'jose'
import { createRelyingParty } from 'lockstep/rp'
import { memoryStore } from 'lockstep/rp/memory'
import { auth } from 'lockstep/rp/node'
import { freePorts, type Program, startApp } from '../../e2e/support/demo.ts'
import type { Page, UserAgent } from '../../test/support/user-agent.ts'
import { type RegisteredRp, type ScriptedOp, startScriptedOp } from './scripted-op.ts'

/** The demo app as a program, and the scripted OP it is registered at: known to each other by HTTP alone. */
export interface RpUnderTest {
  readonly op: ScriptedOp
  readonly url: string
  readonly registered: RegisteredRp
  logIn(browser: UserAgent): Promise<Page>
  /** Asks for a logout at the app, and ends where the OP sends the browser. */
  logOut(browser: UserAgent): Promise<Page>
  isSignedIn(browser: UserAgent): Promise<boolean>
  close(): Promise<void>
}

export async function startRp(): Promise<RpUnderTest> {
  const data = mkdtempSync(join(tmpdir(), 'lockstep-conformance-'))
  const port = await freePorts(1)
  const url = `http://notes.localhost:${port}`
  const registered = registrationOf(url, port)
  const op = await startScriptedOp(registered)
  const program: Program = await startApp('Notes', { port, issuer: op.issuer, data })
  return underTest({ op, url, registered }, async () => {
    await program.kill('SIGTERM')
    rmSync(data, { recursive: true, force: true })
  })
}

/** An app that has registered encryption; the demo's have not. */
export async function startEncryptedRp(): Promise<RpUnderTest> {
  const { publicKey, privateKey } = await generateKeyPair('RSA-OAEP-256')
  const server = createServer((req, res) => void serve(req, res))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const url = `http://notes.localhost:${port}`
  const registered = { ...registrationOf(url, port), encryptTo: publicKey }
  const op = await startScriptedOp(registered)
  const rp = createRelyingParty({
    issuer: op.issuer,
    clientId: registered.clientId,
    clientSecret: registered.clientSecret,
    appUrl: url,
    store: memoryStore(),
    decryptionKeys: [{ key: privateKey, alg: 'RSA-OAEP-256' }],
    log: () => {},
  })
  const lockstep = auth(rp)
  async function serve(...[req, res]: Parameters<typeof lockstep>): Promise<void> {
    if (!(await lockstep(req, res))) res.end('start page')
  }
  return underTest({ op, url, registered }, async () => {
    await rp.close()
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })
}

function registrationOf(url: string, port: number): RegisteredRp {
  return {
    clientId: 'notes',
    clientSecret: 'demo-secret-of-notes',
    redirectUri: `${url}/auth/callback`,
    postLogoutRedirectUri: `${url}/auth/logged-out`,
    backchannelLogoutUri: `http://127.0.0.1:${port}/auth/backchannel-logout`,
    frontchannelLogoutUri: `${url}/auth/frontchannel-logout`,
  }
}

function underTest(parts: Pick<RpUnderTest, 'op' | 'url' | 'registered'>, stop: () => Promise<void>): RpUnderTest {
  const { op, url } = parts
  return {
    ...parts,
    logIn: (browser) => browser.open(`${url}/auth/login`),
    logOut: async (browser) => browser.submit(await browser.open(`${url}/auth/logout`), { from: 'everywhere' }),
    isSignedIn: async (browser) => (await browser.fetch(url, '/auth/session')).status === 200,
    async close() {
      await stop()
      await op.close()
    },
  }
}
