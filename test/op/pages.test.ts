import { afterEach, describe, expect, it } from 'vitest'
import { languagesOf, wordsFor } from '../../src/op/pages/words.ts'
import type { LockstepOptions, LogoutPages } from '../../src/op.ts'
import { sqliteStore } from '../../src/op-sqlite.ts'
import { expectErrorPage } from '../support/logout-pages.ts'
import { isSignedIn, logIn, logoutUrl } from '../support/op-flow.ts'
import { startRpSite } from '../support/rp-site.ts'
import { startTestOp } from '../support/test-op.ts'
import { createUserAgent } from '../support/user-agent.ts'

const opened: { close(): Promise<unknown> }[] = []
afterEach(async () => {
  for (const each of opened.splice(0).reverse()) await each.close()
})

async function signedIn(options: Partial<LockstepOptions> = {}) {
  const rps = await startRpSite()
  const notes = rps.client('notes', { client_uri: `${rps.origin('notes')}/` })
  const board = rps.client('board', {
    backchannel_logout_uri: undefined,
    frontchannel_logout_uri: `${rps.origin('board')}/front`,
  })
  const op = await startTestOp({ clients: [notes, board], options })
  const browser = createUserAgent()
  opened.push(rps, op, browser)
  const { tokens } = await logIn(browser, op, notes)
  const byNotes = { client_id: 'notes', post_logout_redirect_uri: `${rps.origin('notes')}/bye`, state: 's' }
  return { rps, op, browser, notes, board, tokens, byNotes }
}

describe('the languages of a request', () => {
  it.each<[string | undefined, string | undefined, string]>([
    [undefined, undefined, 'en'],
    ['fr', 'de', 'fr'],
    ['fr-CA en', undefined, 'fr'],
    ['tlh xx', 'de-AT,de;q=0.9,en;q=0.8', 'de'],
    [undefined, 'en;q=0.1, fr;q=0.5, de;q=0', 'fr'],
    [undefined, 'de;q=0', 'en'],
    ['DE', undefined, 'de'],
    ['constructor __proto__ <b>', '*', 'en'],
    ['x'.repeat(10_000), ';;;,,,q=', 'en'],
  ])('ui_locales %j and Accept-Language %j are answered in %s [RPI-2-j] [E10]', (uiLocales, acceptLanguage, language) => {
    expect(wordsFor(languagesOf(uiLocales, acceptLanguage)).language).toBe(language)
  })
})

describe('the pages', () => {
  it.each([
    ['fr', 'Se déconnecter partout ?', 'Vous êtes toujours connecté', 'Vous êtes déconnecté'],
    ['de', 'Überall abmelden?', 'Sie sind weiterhin angemeldet', 'Sie sind'],
  ])('speak %s from the question to the end when the app says so [RPI-2-j]', async (language, question, stayed, end) => {
    const { op, browser } = await signedIn()
    const asked = await browser.open(logoutUrl(op, { ui_locales: `tlh ${language}-XX` }))
    expect(asked.body).toContain(question)
    expect(asked.body).toContain(`<html lang="${language}">`)
    expect((await browser.submit(asked, { answer: 'no' })).body).toContain(stayed)
    const done = await browser.submit(asked, { answer: 'yes' })
    expect(done.body).toContain(end)
    expect(done.body).toContain(`<html lang="${language}">`)
  })

  it.each([
    ['en', 'You are signed out here'],
    ['de', 'Sie sind hier abgemeldet'],
    ['fr', 'Vous êtes déconnecté ici'],
  ])('count no apps of which nothing is known yet: %s', (language, heading) => {
    expect(wordsFor([language]).signedOut.heading(0, 2)).toBe(heading)
  })

  it('speak the browser’s language when the app says nothing, also in errors', async () => {
    const { op, browser } = await signedIn()
    const page = await browser.open(logoutUrl(op, { client_id: 'nobody' }), { 'accept-language': 'fr;q=0.8, de' })
    expect(page.body).toContain('Sie wurden nicht abgemeldet')
  })
})

describe('an OP whose secrets cannot be read', () => {
  it('says so on its page, with a way on and without a secret [RPI-4-d]', async () => {
    const store = sqliteStore(':memory:')
    opened.push(store)
    const start = (key: number) =>
      startTestOp({ clients: [], store, port, options: { encryptionKeys: [new Uint8Array(32).fill(key)] } })
    let port = 0
    const first = await start(1)
    port = first.port
    await first.provider.ready()
    await first.close()
    const op = await start(2)
    const browser = createUserAgent()
    opened.push(op, browser)
    expectErrorPage(await browser.open(logoutUrl(op)), op, 500)
    expect(op.failures).toMatchObject([{ code: 'secrets_unreadable' }])
  })
})

describe('the answer no', () => {
  it('offers the way back to the app that asked [E11]', async () => {
    const { rps, op, browser, byNotes } = await signedIn()
    const page = await browser.submit(await browser.open(logoutUrl(op, byNotes)), { answer: 'no' })
    expect(page.url).toContain('/session/end/ask')
    expect(page.body).toContain(`<a class="button" href="${rps.origin('notes')}/">Back to Notes</a>`)
  })

  it('leads back to the app by itself where the operator wants that, and ends nothing [E11]', async () => {
    const { rps, op, browser, notes, byNotes } = await signedIn({ logout: { declined: 'redirect' } })
    const page = await browser.submit(await browser.open(logoutUrl(op, byNotes)), { answer: 'no' })
    expect(page.url).toBe(`${rps.origin('notes')}/bye?state=s`)
    expect(await isSignedIn(browser, op, notes)).toBe(true)
    const { post_logout_redirect_uri } = byNotes
    const nobodys = await browser.open(logoutUrl(op, { post_logout_redirect_uri }))
    expect((await browser.submit(nobodys, { answer: 'no' })).body).toContain('You are still signed in')
  })
})

describe('pages of the operator', () => {
  const pages: Partial<LogoutPages> = {
    confirm: ({ action, request, apps, languages }) =>
      `<!doctype html><title>Ours</title><p>${languages.join()} ${apps.join()}</p>
       <form method="post" action="${action}"><input type="hidden" name="request" value="${request}"><button name="answer" value="yes"></button></form>`,
    stayed: ({ app }) => `<p>ours: stayed, ${app ?? 'nobody'}</p>`,
    telling: async ({ frames, next }) => `<p>ours: telling</p>${frames}<a href="${next}">on</a>`,
    signedOut: ({ apps }) => `<p>ours: ${apps.map(({ app, state }) => `${app} ${state}`).join(', ')}</p>`,
    error: ({ problem, detail }) => `<p>ours: ${problem} ${detail === undefined ? '' : 'with detail'}</p>`,
  }

  it('take the place of the built-in ones, and the logout works as before', async () => {
    const { op, browser, board } = await signedIn({ logout: { pages } })
    await logIn(browser, op, board)
    const asked = await browser.open(logoutUrl(op, { ui_locales: 'pt-BR' }), { 'accept-language': 'en' })
    expect(asked.body).toContain('<p>pt-BR,en Board,Notes</p>')
    expect((await browser.submit(asked, { answer: 'no' })).body).toContain('ours: stayed')
    const telling = await browser.submit(asked, { answer: 'yes' })
    expect(telling.body).toContain('ours: telling')
    expect(telling.body).toContain('sandbox="allow-scripts allow-same-origin"')
    const end = await browser.open(`${op.issuer}/session/end/signed-out`)
    expect(end.body).toContain('ours: Board unknown, Notes delivered')
    const wrong = await browser.open(logoutUrl(op, { client_id: 'nobody' }))
    expect(wrong.status).toBe(400)
    expect(wrong.body).toContain('ours: logout_request_invalid with detail')
  })

  it('are never framed or cached either, and their styles and scripts are their own matter [T5]', async () => {
    const { op, browser } = await signedIn({ logout: { pages } })
    const { header } = await browser.open(logoutUrl(op))
    expect(header('content-security-policy')).toContain("frame-ancestors 'none'")
    expect(header('content-security-policy')).not.toContain('default-src')
    expect(header('x-frame-options')).toBe('DENY')
    expect(header('cache-control')).toBe('no-store')
  })

  it('that fail end nothing before the answer, and undo nothing after it', async () => {
    const broken = () => {
      throw new Error('a typo in a template')
    }
    const { op, browser, notes, tokens } = await signedIn({ logout: { pages: { confirm: broken, signedOut: broken } } })
    const page = await browser.open(logoutUrl(op))
    expect(page.status).toBe(500)
    expect(page.body).toContain('You may still be signed in')
    expect(await isSignedIn(browser, op, notes)).toBe(true)
    const after = await browser.open(logoutUrl(op, { id_token_hint: tokens.id_token }))
    expect(after.status).toBe(500)
    expect(after.body).toContain('You are signed out')
    expect(after.body).not.toContain('You may still be signed in')
    expect(await isSignedIn(browser, op, notes)).toBe(false)
  })

  it('whose error page fails too are stood in for by ours, and the operator hears of both', async () => {
    const broken = (): never => {
      throw new Error('a typo in a template')
    }
    const { op, browser } = await signedIn({ logout: { pages: { confirm: broken, error: broken } } })
    const page = await browser.open(logoutUrl(op))
    expectErrorPage(page, op, 500)
    expect(page.body).not.toContain('typo')
    expect(op.failures.map(({ message }) => message)).toEqual(['a typo in a template', 'a typo in a template'])
  })

  it.each<[string, unknown]>([
    ['logout.pages.confrim', { pages: { confrim: () => '' } }],
    ['logout.pages.confirm', { pages: { confirm: '<p>' } }],
    ['logout.declined', { declined: 'stay' }],
    ['logout.page', { page: {} }],
  ])('and options that are wrong are a TypeError that names %s', async (name, logout) => {
    const options = { logout } as Partial<LockstepOptions>
    await expect(startTestOp({ clients: [], options })).rejects.toThrow(TypeError)
    await expect(startTestOp({ clients: [], options })).rejects.toThrow(name)
  })
})
