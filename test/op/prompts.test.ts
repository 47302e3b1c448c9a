import { type Configuration, interactionPolicy, type ResponseType } from 'oidc-provider'
import { afterEach, describe, expect, it } from 'vitest'
import type { LockstepOptions } from '../../src/op.ts'
import { answerOn, authorizationUrl, authorize, isSignedIn, logIn, logoutUrl, redeem } from '../support/op-flow.ts'
import { startRpSite } from '../support/rp-site.ts'
import { type Interact, signIn, startTestOp } from '../support/test-op.ts'
import { createUserAgent } from '../support/user-agent.ts'

const opened: { close(): Promise<unknown> }[] = []
afterEach(async () => {
  for (const each of opened.splice(0).reverse()) await each.close()
})

interface Parts {
  readonly options?: Partial<LockstepOptions>
  readonly configuration?: Configuration
  readonly interact?: Interact
}

const hinted = ({ login_hint: hint }: Record<string, unknown>): string => (typeof hint === 'string' ? hint : 'ada')

async function start(parts: Parts = {}) {
  const rps = await startRpSite()
  const notes = rps.client('notes')
  const mail = rps.client('mail')
  // implicit grants are https or a native app's
  const desktop = {
    ...rps.client('desktop'),
    application_type: 'native' as const,
    post_logout_redirect_uris: [],
    response_types: ['code', 'id_token', 'code id_token'] as ResponseType[],
    grant_types: ['authorization_code', 'implicit'],
    redirect_uris: [`http://127.0.0.1:${new URL(rps.origin('desktop')).port}/cb`],
  }
  const prompts: string[] = []
  const signIn: Interact = ({ params }) => ({ login: { accountId: hinted(params) } })
  const op = await startTestOp({
    clients: parts.configuration?.responseTypes ? [notes, mail, desktop] : [notes, mail],
    ...parts,
    interact: (interaction) => {
      prompts.push(interaction.prompt.name)
      return (parts.interact ?? signIn)(interaction)
    },
  })
  const browser = createUserAgent()
  opened.push(rps, op, browser)
  return { rps, notes, mail, desktop, op, browser, prompts }
}

const discovery = async ({ issuer }: { issuer: string }) =>
  (await (await fetch(`${issuer}/.well-known/openid-configuration`)).json()) as Record<string, unknown>

const subOf = (jwt: string) => JSON.parse(Buffer.from(jwt.split('.')[1] ?? '', 'base64url').toString()).sub

describe('prompt=create', () => {
  const create: Parts = {
    options: { promptCreate: true },
    interact: ({ prompt, params }) =>
      prompt.name === 'create'
        ? { create: {}, login: { accountId: 'newcomer' } }
        : { login: { accountId: hinted(params) } },
  }

  it('is listed with all other values once it is switched on, and the others always [PC-4.2-a]', async () => {
    expect((await discovery((await start(create)).op)).prompt_values_supported).toEqual([
      'none',
      'create',
      'login',
      'consent',
    ])
    expect((await discovery((await start()).op)).prompt_values_supported).toEqual(['none', 'login', 'consent'])
  })

  it('starts where accounts are made and ends with an ID Token of the new account [PC-4-a] [PC-4.1-a]', async () => {
    const { op, notes, browser, prompts } = await start(create)
    const { tokens } = await logIn(browser, op, notes, { prompt: 'create' })
    expect(prompts).toEqual(['create'])
    expect(subOf(tokens.id_token)).toBe('newcomer')
    expect(await isSignedIn(browser, op, notes)).toBe(true)
  })

  it.each([
    'code',
    'id_token',
    'code id_token',
  ])('is the same for response_type=%s, as is a prompt that is not supported [PC-4.1-a] [PC-4.1-d]', async (response_type) => {
    const { op, browser, prompts, desktop } = await start({
      ...create,
      interact: (interaction) =>
        interaction.prompt.name === 'consent' ? { consent: {} } : (create.interact ?? signIn)(interaction),
      configuration: { responseTypes: ['code', 'id_token', 'code id_token'] },
    })
    const answer = await authorize(browser, op, desktop, { prompt: 'create', response_type })
    expect(prompts).toEqual(['create', 'consent'])
    expect([...answer.params.keys()]).toEqual(expect.arrayContaining(response_type.split(' ')))
    const idToken = answer.params.get('id_token') ?? (await redeem(op, desktop, answer.code)).id_token
    expect(subOf(idToken)).toBe('newcomer')
    const refused = await browser.open(authorizationUrl(op, desktop, { prompt: 'make', response_type }))
    expect(refused.status).toBe(400)
    expect(JSON.parse(refused.body)).toMatchObject({ error_description: 'unsupported prompt value: make' })
  })

  it('for somebody who is signed in starts there too; the new account takes over, and the old one’s apps are told [PC §4] [SM-3.2-g]', async () => {
    const { op, notes, mail, browser, rps } = await start(create)
    await logIn(browser, op, notes)
    await logIn(browser, op, mail)
    const stateOf = () => browser.cookies(op.issuer).find(({ name }) => name.startsWith('__Host-op_state.'))?.value
    const before = stateOf()
    const { tokens } = await logIn(browser, op, notes, { prompt: 'create' })
    expect(subOf(tokens.id_token)).toBe('newcomer')
    expect((await rps.received(2)).map(({ app }) => app).sort()).toEqual(['mail', 'notes'])
    expect(await op.provider.opSessions.list({ accountId: 'ada' })).toEqual({ sessions: [] })
    expect(stateOf()).not.toBe(before)
  })

  it('with none is an error, as any value with none [PC-4-b] [E44]', async () => {
    const { op, notes, browser } = await start(create)
    for (const prompt of ['create none', 'none create', 'none login']) {
      expect((await authorize(browser, op, notes, { prompt })).params.get('error')).toBe('invalid_request')
    }
  })

  it('keeps a prompt of that name which the operator has already [PC §4]', async () => {
    const policy = interactionPolicy.base()
    policy.add(new interactionPolicy.Prompt({ name: 'create', requestable: true }), 1)
    const { op } = await start({
      ...create,
      configuration: { interactions: { policy, url: (_ctx, { uid }) => `/interaction/${uid}` } },
    })
    expect((await discovery(op)).prompt_values_supported).toEqual(['none', 'login', 'create', 'consent'])
  })

  it('that is not supported is a 400 that names the value, by any response mode, and goes to no app [PC-4.1-d] [E43]', async () => {
    const { op, notes, browser, rps } = await start()
    for (const mode of ['query', 'fragment', 'form_post']) {
      const page = await browser.open(authorizationUrl(op, notes, { prompt: 'create', response_mode: mode }))
      expect(page.status).toBe(400)
      expect(JSON.parse(page.body)).toEqual({
        error: 'invalid_request',
        error_description: 'unsupported prompt value: create',
      })
    }
    expect(rps.log).toEqual([])
  })

  it('that is not supported is said on a page of ours where the operator has none, whatever the value [PC-4.1-d] [T24]', async () => {
    const { op, notes, browser } = await start({ configuration: { renderError: undefined } })
    const page = await browser.open(authorizationUrl(op, notes, { prompt: '<script>alert(1)</script>' }))
    expect(page.status).toBe(400)
    expect(page.body).toContain('invalid_request: unsupported prompt value: ?script?alert')
    expect(page.body).not.toContain('<script')
    expect(page.header('content-security-policy')).toContain("frame-ancestors 'none'")
  })

  it('that is not supported is said in the language of the app, else of the browser [PC-4.1-d] [RPI-2-j]', async () => {
    const { op, notes, browser } = await start({ configuration: { renderError: undefined } })
    const page = (params: Record<string, string>, language: string) =>
      browser.open(authorizationUrl(op, notes, { prompt: 'create', ...params }), { 'accept-language': language })
    const german = await page({}, 'de-AT,en;q=0.5')
    expect(german.body).toContain('<html lang="de">')
    expect(german.body).toContain('Das geht hier nicht')
    expect(german.body).toContain('invalid_request: unsupported prompt value: create')
    const french = await page({ ui_locales: 'tlh fr-CA' }, 'de')
    expect(french.body).toContain('<html lang="fr">')
    expect(french.body).toContain('Cela n’est pas possible ici')
    expect((await page({ ui_locales: 'tlh' }, 'tlh')).body).toContain('This cannot be done here')
  })

  it('is a TypeError when it is no boolean', async () => {
    await expect(start({ options: { promptCreate: 'yes' } as never })).rejects.toThrow('promptCreate')
  })
})

describe('prompt=none', () => {
  it('answers the user who is there, in a frame and at the top level, and asks nobody anything [CORE-3.1.2.1-a] [oidcc-prompt-none-logged-in]', async () => {
    const { op, notes, browser, rps, prompts } = await start()
    const { tokens } = await logIn(browser, op, notes)
    const asked = prompts.length
    const top = await authorize(browser, op, notes, { prompt: 'none' })
    const framed = answerOn(await browser.frame(rps.origin('notes'), authorizationUrl(op, notes, { prompt: 'none' })))
    for (const { code } of [top, framed]) expect(code).toMatch(/./)
    expect(subOf(tokens.id_token)).toBe('ada')
    expect(prompts).toHaveLength(asked)
  })

  it('answers login_required when nobody is [CORE-3.1.2.1-a] [oidcc-prompt-none-not-logged-in]', async () => {
    const { op, notes, browser, rps } = await start()
    const url = authorizationUrl(op, notes, { prompt: 'none' })
    for (const page of [await browser.open(url), await browser.frame(rps.origin('notes'), url)]) {
      expect(answerOn(page).params.get('error')).toBe('login_required')
    }
  })

  it('with the hint of the user who is there succeeds, also when it has expired [CORE-3.1.2.1-c] [oidcc-id-token-hint]', async () => {
    const { op, notes, browser } = await start()
    const { tokens } = await logIn(browser, op, notes)
    const { params } = await authorize(browser, op, notes, { prompt: 'none', id_token_hint: tokens.id_token })
    expect(params.get('code')).toMatch(/./)
  })

  it('with the hint of another user is login_required [CORE-3.1.2.1-c] [CORE-3.1.2.2-4]', async () => {
    const { op, notes, browser } = await start()
    const other = createUserAgent()
    opened.push(other)
    const bob = await logIn(other, op, notes, { login_hint: 'bob' })
    await logIn(browser, op, notes)
    const { params } = await authorize(browser, op, notes, { prompt: 'none', id_token_hint: bob.tokens.id_token })
    expect(params.get('error')).toBe('login_required')
  })

  it('with a hint that this OP did not sign is refused [CORE-3.1.2.2-5]', async () => {
    const { op, notes, browser } = await start()
    const { tokens } = await logIn(browser, op, notes)
    const forged = `${tokens.id_token.slice(0, -6)}AAAAAA`
    const { params } = await authorize(browser, op, notes, { prompt: 'none', id_token_hint: forged })
    expect(params.get('error')).toBe('invalid_request')
  })

  it('in a frame or a script does not tell a client without a grant that somebody is there [T33]', async () => {
    const loadExistingGrant: Configuration['loadExistingGrant'] = async ({ oidc: { client, session, provider } }) => {
      if (client?.clientId !== 'notes' || !session?.accountId) return undefined
      const grant = new provider.Grant({ accountId: session.accountId, clientId: 'notes' })
      grant.addOIDCScope('openid')
      await grant.save()
      return grant
    }
    const { op, notes, mail, browser, rps } = await start({ configuration: { loadExistingGrant } })
    await logIn(browser, op, notes)
    const url = authorizationUrl(op, mail, { prompt: 'none' })
    const framed = answerOn(await browser.frame(rps.origin('mail'), url)).params
    const stranger = createUserAgent()
    opened.push(stranger)
    const nobody = answerOn(await stranger.frame(rps.origin('mail'), url)).params
    for (const name of ['error', 'error_description']) expect(framed.get(name)).toBe(nobody.get(name))
    expect(framed.get('error')).toBe('login_required')
    expect(answerOn(await browser.open(url)).params.get('error')).toBe('consent_required')
    const cookie = browser.cookies(op.issuer).map(({ name, value }) => `${name}=${value}`)
    for (const destination of ['iframe', 'frame', 'empty']) {
      const headers = { cookie: cookie.join('; '), 'sec-fetch-dest': destination, 'sec-fetch-site': 'cross-site' }
      const { headers: answer } = await fetch(url, { headers, redirect: 'manual' })
      const error = new URL(answer.get('location') ?? '').searchParams.get('error')
      expect([destination, error]).toEqual([destination, 'login_required'])
    }
  })

  it('in a frame does not take a consent that has expired for a logout of a client that logged the user in [T33]', async () => {
    let isGranted = true
    const loadExistingGrant: Configuration['loadExistingGrant'] = async ({ oidc: { client, session, provider } }) => {
      if (!isGranted || !client || !session?.accountId) return undefined
      const grant = new provider.Grant({ accountId: session.accountId, clientId: client.clientId })
      grant.addOIDCScope('openid')
      await grant.save()
      return grant
    }
    const { op, notes, browser, rps } = await start({ configuration: { loadExistingGrant } })
    await logIn(browser, op, notes)
    isGranted = false
    const framed = await browser.frame(rps.origin('notes'), authorizationUrl(op, notes, { prompt: 'none' }))
    expect(answerOn(framed).params.get('error')).toBe('consent_required')
  })
})

describe('the browser’s own login status', () => {
  it('hears of a login and of a logout, once each [Login Status API]', async () => {
    const { op, notes, browser } = await start()
    const said: (string | null)[] = []
    const note = async (url: string): Promise<void> => {
      const cookie = browser.cookies(op.issuer).map(({ name, value }) => `${name}=${value}`)
      const response = await fetch(url, {
        headers: { cookie: cookie.join('; '), 'sec-fetch-dest': 'document' },
        redirect: 'manual',
      })
      said.push(response.headers.get('set-login'))
    }
    await note(authorizationUrl(op, notes, { prompt: 'none' }))
    const { tokens } = await logIn(browser, op, notes)
    await note(authorizationUrl(op, notes, { prompt: 'none' }))
    const name = browser.cookies(op.issuer).find((cookie) => cookie.name.startsWith('__Host-op_state.'))?.name
    browser.setCookie(op.issuer, `${name}=n.${'x'.repeat(22)}; Path=/; Secure`)
    await note(authorizationUrl(op, notes, { prompt: 'none' }))
    await logIn(browser, op, notes, { prompt: 'login' })
    await note(logoutUrl(op, { id_token_hint: tokens.id_token }))
    expect(said).toEqual([null, null, 'logged-in', 'logged-out'])
  })
})
