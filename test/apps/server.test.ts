import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { demoConfig } from '../../apps/server/demo-config.ts'
import { browser, configOf, fileFor, freePort, loginUrl, running, scratchFolder, startApp } from './support.ts'

async function world(changes: Parameters<typeof configOf>[1] = {}) {
  const app = await startApp()
  const port = await freePort()
  const config = configOf(fileFor(port, app.origin), changes)
  const lines: string[] = []
  const server = await running(config, lines)
  const login = (more: Record<string, string> = {}) => loginUrl(config.issuer, app.origin, more)
  return { app, config, issuer: config.issuer, server, lines, login }
}

describe('signing in', () => {
  it('shows the app, takes username and password, and goes back to the app', async () => {
    const { app, login } = await world()
    const tab = browser()
    const form = await tab.open(login())
    expect(form.status).toBe(200)
    expect(form.body).toContain('Sign in to continue to Notes')
    const back = await tab.submit(form, { username: 'ada', password: 'analytical' })
    expect(back.url).toContain(`${app.origin}/callback?`)
    const answer = new URL(back.url).searchParams
    expect(answer.get('code')).toBeTruthy()
    expect(answer.get('session_state')).toMatch(/^\S+\.\S+$/)
  })

  it('stays on the page when the password is wrong, and says so', async () => {
    const { login, lines } = await world()
    const tab = browser()
    const again = await tab.submit(await tab.open(login()), { username: 'ada', password: 'hunter2' })
    expect(again.status).toBe(422)
    expect(again.body).toMatch(/role="alert">That username and password do not match/)
    expect(again.body).toMatch(/name="username" value="ada"/)
    expect(again.body).not.toContain('hunter2')
    expect(lines.join()).not.toMatch(/hunter2|analytical/)
    const back = await tab.submit(again, { password: 'analytical' })
    expect(new URL(back.url).searchParams.get('code')).toBeTruthy()
  })

  it('makes a guesser wait after five wrong passwords', async () => {
    const { login } = await world()
    const tab = browser()
    let page = await tab.open(login())
    for (let i = 0; i < 5; i++) page = await tab.submit(page, { username: 'ada', password: `guess-${i}` })
    page = await tab.submit(page, { username: 'ada', password: 'analytical' })
    expect(page.status).toBe(429)
    expect(Number(page.header('retry-after'))).toBeGreaterThan(0)
    expect(page.body).toContain('Too many wrong passwords')
  })

  it('refuses a form that another origin sends, or that does not say who sends it [T5]', async () => {
    const { login, issuer } = await world()
    const tab = browser()
    const form = await tab.open(login())
    const { pathname } = new URL(form.url)
    const csrf = /name="csrf" value="([^"]+)"/.exec(form.body)?.[1] ?? ''
    const body = new URLSearchParams({ csrf, username: 'ada', password: 'analytical' }).toString()
    const post = (headers: Record<string, string>) =>
      tab.fetch(issuer, pathname, {
        method: 'POST',
        body,
        headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers },
      })
    for (const headers of [
      { origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' },
      { origin: 'null', 'sec-fetch-site': 'same-origin' },
      { origin: issuer, 'sec-fetch-site': 'same-site' },
    ]) {
      const refused = await post(headers)
      expect(refused.status).toBe(403)
      expect(refused.body).toContain('That did not come from this page')
    }
    // one that says nothing of where it comes from, as no browser does
    const cookie = tab
      .cookies(form.url)
      .map(({ name, value }) => `${name}=${value}`)
      .join('; ')
    const silent = await fetch(form.url, {
      method: 'POST',
      body,
      headers: { cookie, 'content-type': 'application/x-www-form-urlencoded' },
      redirect: 'manual',
    })
    expect(silent.status).toBe(403)
    expect(await silent.text()).toContain('That did not come from this page')
    expect((await post({ origin: issuer, 'sec-fetch-site': 'same-origin' })).status).toBe(303)
  })

  it('refuses a form without its token, or with that of another login [T5]', async () => {
    const { login } = await world()
    const [tab, other] = [browser(), browser()]
    const form = await tab.open(login())
    const foreign = /name="csrf" value="([^"]+)"/.exec((await other.open(login())).body)?.[1] ?? ''
    for (const csrf of ['', 'x', foreign]) {
      const refused = await tab.submit(form, { csrf, username: 'ada', password: 'analytical' })
      expect(refused.status).toBe(403)
    }
  })

  it('cannot be framed, and loads nothing from elsewhere [T5]', async () => {
    const { login } = await world()
    const page = await browser().open(login())
    const policy = page.header('content-security-policy')
    expect(policy).toContain("default-src 'none'")
    expect(policy).toContain("frame-ancestors 'none'")
    expect(page.header('cache-control')).toBe('no-store')
    for (const [, url] of page.body.matchAll(/(?:src|href)="([^"]*)"/g)) expect(url).toMatch(/^\/assets\//)
  })

  it('says that a sign-in is over when its page is opened again', async () => {
    const { login } = await world()
    const tab = browser()
    const form = await tab.open(login())
    await tab.submit(form, { username: 'ada', password: 'analytical' })
    const stale = await tab.open(form.url)
    expect(stale.status).toBe(400)
    expect(stale.body).toContain('This sign-in is over')
  })

  it('gives a first-party app offline_access without a page in between', async () => {
    const { app, issuer, login } = await world()
    const tab = browser()
    const form = await tab.open(login({ scope: 'openid offline_access', prompt: 'consent' }))
    const back = await tab.submit(form, { username: 'ada', password: 'analytical' })
    const code = new URL(back.url).searchParams.get('code') ?? ''
    const body = new URLSearchParams({
      grant_type: 'authorization_code',
      code,
      redirect_uri: `${app.origin}/callback`,
    }).toString()
    const basic = Buffer.from('notes:secret-of-notes').toString('base64')
    const headers = { 'content-type': 'application/x-www-form-urlencoded', authorization: `Basic ${basic}` }
    const answer = await browser().fetch(app.origin, `${issuer}/token`, { method: 'POST', body, headers })
    expect(JSON.parse(answer.body)).toMatchObject({ scope: 'openid offline_access', refresh_token: expect.any(String) })
  })

  it('offers accounts in the demo and nowhere else [T22]', async () => {
    const { login } = await world()
    expect((await browser().open(login())).body).not.toContain('Demo accounts')

    const port = await freePort()
    const demo = demoConfig({ port, dataFolder: scratchFolder() })
    await running(demo)
    const tab = browser()
    const params = {
      client_id: 'notes',
      response_type: 'code',
      scope: 'openid',
      redirect_uri: `http://notes.localhost:${port + 1}/auth/callback`,
    }
    const form = await tab.open(`${demo.issuer}/auth?${new URLSearchParams(params)}`)
    expect(form.body).toContain('Demo accounts')
    const filled = await tab.open(`${form.url}?account=ada`)
    expect(filled.body).toMatch(/name="username" value="ada"/)
    expect(filled.body).toMatch(/value="analytical"/)
  })
})

describe('a restart', () => {
  it('keeps logins and keys', async () => {
    const file = join(scratchFolder(), 'op.db')
    const { app, config, server, login } = await world({
      store: { sqlite: file },
      secrets: { key_file: `${file}.key` },
    })
    const tab = browser()
    await tab.submit(await tab.open(login()), { username: 'ada', password: 'analytical' })
    const keys = await browser().open(`${config.issuer}/jwks`)
    await server.stop()

    await running(config)
    expect((await browser().open(`${config.issuer}/jwks`)).body).toBe(keys.body)
    const silent = await tab.open(login({ prompt: 'none' }))
    expect(silent.url).toContain(`${app.origin}/callback?code=`)
  })
})

describe('the home page', () => {
  it('says what this is, then who is signed in and where, and leads to the way out', async () => {
    const { app, issuer, login } = await world()
    const tab = browser()
    expect((await tab.open(`${issuer}/`)).body).toContain('You are not signed in')
    await tab.submit(await tab.open(login()), { username: 'ada', password: 'analytical' })

    const home = await tab.open(`${issuer}/`)
    expect(home.body).toContain('You are signed in as Ada Lovelace')
    expect(home.body).toContain('Notes')
    const signOut = /class="button primary" href="([^"]+)"/.exec(home.body)?.[1] ?? ''
    const question = await tab.click(home, signOut)
    expect(question.status).toBe(200)
    const out = await tab.submit(question, { answer: 'yes' })
    expect(out.body).toContain('You are signed out')
    expect((await tab.open(`${issuer}/`)).body).toContain('You are not signed in')
    expect(app.logoutTokens).toHaveLength(1)
  })
})

describe('what is not meant for it', () => {
  it('is answered 404 with a page that says what to do', async () => {
    const { issuer } = await world()
    for (const path of ['/nothing', '/interaction/x/y', '/assets/../main.ts', '/assets/none.css']) {
      const page = await browser().open(`${issuer}${path}`)
      expect(page.status, path).toBe(404)
      expect(page.body, path).toContain('There is nothing here')
      expect(page.body, path).not.toMatch(/\.ts:|at \w+ \(/)
    }
  })

  it('is answered 413 when it is too large', async () => {
    const { issuer, login } = await world()
    const tab = browser()
    const form = await tab.open(login())
    const post = (path: string, size: number) =>
      tab.fetch(issuer, path, {
        method: 'POST',
        body: `a=${'x'.repeat(size)}`,
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
      })
    for (const [path, size] of [
      ['/token', 60_000],
      ['/token', 200_000],
      ['/session/end', 200_000],
      [new URL(form.url).pathname, 10_000],
    ] as const) {
      expect((await post(path, size)).status, `${path} ${size}`).toBe(413)
    }
  })

  it('is refused when its Host is not this machine [T22]', async () => {
    const { issuer, config } = await world()
    const tab = browser()
    for (const path of ['/', '/.well-known/openid-configuration', '/assets/style.css', '/session/end']) {
      const page = await tab.open(`${issuer}${path}`, { host: `evil.example:${config.listen.port}` })
      expect(page.status, path).toBe(421)
    }
    const metadata = await tab.open(`http://127.0.0.1:${config.listen.port}/.well-known/openid-configuration`, {
      'sec-fetch-dest': 'empty',
    })
    expect(JSON.parse(metadata.body)).toMatchObject({ issuer, end_session_endpoint: `${issuer}/session/end` })
  })

  it('keeps forwarded headers from bending its URLs', async () => {
    const { issuer } = await world()
    const headers = { 'x-forwarded-host': 'evil.example', 'x-forwarded-proto': 'https', 'sec-fetch-dest': 'empty' }
    const metadata = await browser().open(`${issuer}/.well-known/openid-configuration`, headers)
    expect(metadata.body).not.toContain('evil.example')
    expect(JSON.parse(metadata.body)).toMatchObject({ authorization_endpoint: `${issuer}/auth` })
  })
})

describe('behind a TLS proxy', () => {
  it('makes URLs and cookies of its https issuer, below its path', async () => {
    const app = await startApp()
    const port = await freePort()
    const file = { ...fileFor(port, app.origin), issuer: 'https://op.example.com/login', egress: { allow: [] } }
    await running(configOf(file))
    const { request } = await import('node:http')
    const get = (path: string) =>
      new Promise<{ status: number | undefined; location: string | undefined; cookies: string; body: string }>(
        (resolve, reject) => {
          const headers = { host: 'backend:80', 'x-forwarded-for': '192.0.2.1, 192.0.2.2' }
          request({ port, host: '127.0.0.1', path, headers }, async (res) => {
            let body = ''
            for await (const chunk of res) body += String(chunk)
            resolve({
              status: res.statusCode,
              location: res.headers.location,
              cookies: String(res.headers['set-cookie']),
              body,
            })
          })
            .on('error', reject)
            .end()
        },
      )
    const metadata = JSON.parse((await get('/login/.well-known/openid-configuration')).body)
    expect(metadata).toMatchObject({
      issuer: 'https://op.example.com/login',
      authorization_endpoint: 'https://op.example.com/login/auth',
      check_session_iframe: 'https://op.example.com/login/session/check',
    })
    const begun = await get(`/login/auth?${new URL(loginUrl('https://op.example.com/login', app.origin)).searchParams}`)
    expect(begun.status).toBe(303)
    expect(begun.location).toMatch(/^(https:\/\/op\.example\.com)?\/login\/interaction\//)
    expect(begun.cookies).toMatch(/path=\/login\/interaction\/.*secure/i)
    expect((await get('/login/')).body).toContain('/login/assets/style.css')
    expect((await get('/login')).status).toBe(200)
    expect((await get('/elsewhere')).status).toBe(404)
  })
})

describe('a client that is wrong', () => {
  const refused = async (client: Record<string, unknown>): Promise<string> => {
    const file = fileFor(await freePort(), 'http://127.0.0.1:9')
    const [first] = file.clients as Record<string, unknown>[]
    return running(configOf({ ...file, clients: [{ ...first, ...client }] })).then(
      () => 'it started',
      (error: Error) => `${error.name}: ${error.message}`,
    )
  }

  it.each([
    ['no redirect_uris', { redirect_uris: undefined }, 'redirect_uris'],
    ['redirect_uris that are no list', { redirect_uris: 'http://127.0.0.1/callback' }, 'redirect_uris'],
    ['no secret', { client_secret: undefined }, 'client_secret'],
    ['a wrong authentication method', { token_endpoint_auth_method: 'password' }, 'token_endpoint_auth_method'],
    ['a logout URI that is none', { backchannel_logout_uri: 'nowhere' }, 'backchannel_logout_uri'],
    ['a misspelt logout URI', { backchanel_logout_uri: 'https://notes.example.com/x' }, '"backchanel_logout_uri"'],
    ['text for true or false', { lockstep_logout_details: 'yes' }, 'lockstep_logout_details'],
  ])('is named with its key for %s', async (_what, client, key) => {
    const complaint = await refused(client)
    expect(complaint).toMatch(/^ConfigError: op\.json: /)
    expect(complaint).toContain('client "notes"')
    expect(complaint).toContain(key)
  })
})

describe('the data on disk', () => {
  it('is in the folder that was asked for', async () => {
    const folder = scratchFolder()
    await running(demoConfig({ port: await freePort(), dataFolder: join(folder, 'deep', 'er') }))
    expect(
      readFileSync(join(folder, 'deep', 'er', 'op.db'))
        .subarray(0, 6)
        .toString(),
    ).toBe('SQLite')
  })
})
