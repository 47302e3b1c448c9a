import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
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
  const registered: RegisteredRp = {
    clientId: 'notes',
    clientSecret: 'demo-secret-of-notes',
    redirectUri: `${url}/auth/callback`,
    postLogoutRedirectUri: `${url}/auth/logged-out`,
    backchannelLogoutUri: `http://127.0.0.1:${port}/auth/backchannel-logout`,
    frontchannelLogoutUri: `${url}/auth/frontchannel-logout`,
  }
  const op = await startScriptedOp(registered)
  const program: Program = await startApp('Notes', { port, issuer: op.issuer, data })
  return {
    op,
    url,
    registered,
    logIn: (browser) => browser.open(`${url}/auth/login`),
    logOut: async (browser) => browser.submit(await browser.open(`${url}/auth/logout`), { from: 'everywhere' }),
    isSignedIn: async (browser) => (await browser.fetch(url, '/auth/session')).status === 200,
    async close() {
      await program.kill('SIGTERM')
      await op.close()
      rmSync(data, { recursive: true, force: true })
    },
  }
}
