import { html, raw } from '../../runtime/html.ts'
import { appList, headingOf } from './marks.ts'
import { builtInPage, type PageContent } from './page.ts'
import type { PageData } from './pages.ts'
import type { Words } from './words.ts'

/** The pages of the Logout Endpoint where the operator has none of his own. */
export const builtIn: { readonly [Name in keyof PageData]: (data: PageData[Name], words: Words) => PageContent } = {
  /** Who is signed in, which apps will be signed out, two buttons of equal weight. */
  confirm({ action, request, account, apps, askedBy }, words) {
    const { title, heading, asks, signedInAs, lost, apps: theseApps, noApps, yes, no } = words.confirm
    const who = account === undefined ? undefined : signedInAs(html`<strong>${account}</strong>`)
    const which = account === undefined ? lost : apps.length === 0 ? noApps : theseApps
    return builtInPage({
      language: words.language,
      title,
      body: html`<h1>${heading}</h1>
<p>${askedBy === undefined ? undefined : html`${asks(askedBy)} `}${who}
${which}</p>
${apps.length === 0 ? undefined : html`<ul>${apps.map((name) => html`<li>${name}</li>`)}</ul>`}
<form class="choice" method="post" action="${action}">
<input type="hidden" name="request" value="${request}">
<button name="answer" value="yes">${yes}</button>
<button name="answer" value="no">${no}</button>
</form>`,
    })
  },

  stayed({ next, app }, { language, goOn, stayed }) {
    return builtInPage({
      language,
      title: stayed.title,
      body: html`<h1>${stayed.heading}</h1><p>${stayed.text}</p>
<a class="button" href="${next}">${app === undefined ? goOn : stayed.backTo(app)}</a>`,
    })
  },

  /** `meta refresh` is for browsers without JavaScript: its time starts when the frames have loaded, if they ever do. */
  telling({ apps, frames, next, wait, now }, words) {
    const { title, heading, text } = words.telling
    return builtInPage({
      language: words.language,
      title,
      refresh: { after: wait, to: next },
      isLive: true,
      body: html`<h1>${heading}</h1><p>${text}</p>
${appList(apps, now, words)}
<a class="button" id="next" data-wait="${wait}" href="${next}">${words.goOn}</a>
${raw(frames)}`,
    })
  },

  signedOut({ apps, again, now, home }, words) {
    const { title, safe, goesOn, unknown } = words.signedOut
    return builtInPage({
      language: words.language,
      title,
      ...(again === undefined ? {} : { refresh: { after: again }, isLive: again > 0 }),
      body: html`<h1 aria-live="polite">${headingOf(apps, words)}</h1>
<p>${safe} ${again === undefined ? undefined : html`<span id="open" data-again="${again}">${goesOn}</span>`}</p>
${apps.length === 0 ? undefined : appList(apps, now, words)}
${apps.some(({ state }) => state === 'unknown') ? html`<p class="quiet">${unknown}</p>` : undefined}
<a class="button" href="${home}">${words.goOn}</a>`,
    })
  },

  /** What happened, whether anything was lost, and one thing to do (RP-Initiated §4: a kiosk's way out). */
  error({ problem, detail, logoutEndpoint, home }, words) {
    const { title, heading, unchanged, uncertain, again, code, problems } = words.error
    if (problem === 'receipt_unavailable') {
      return builtInPage({
        language: words.language,
        title: words.signedOut.title,
        body: html`<h1>${words.signedOut.heading(0, 0)}</h1><p>${problems[problem]}</p>
<a class="button" href="${home}">${words.goOn}</a><p class="quiet">${code}: ${problem}</p>`,
      })
    }
    // What failed on our side may have been the answer to a commit.
    const said = problem === 'server_error' ? uncertain : { heading, text: unchanged }
    return builtInPage({
      language: words.language,
      title: problem === 'server_error' ? said.heading : title,
      body: html`<h1>${said.heading}</h1><p>${problems[problem]} ${said.text}</p>
<form method="get" action="${logoutEndpoint}"><button>${again}</button></form>
<p class="quiet">${detail === undefined ? undefined : html`${detail}. `}${code}: ${problem}</p>`,
    })
  },
}
