/** Script that keeps what the OP iframe of a page said, in turn. */
function recordOpIframe(issuer: string): string {
  return `
  const opIframeSaid = window.opIframeSaid = []
  addEventListener('message', ({ data, origin }) => { if (origin === '${new URL(issuer).origin}') opIframeSaid.push(data) })`
}

/** A page of an app with a backend: the script tag, and a record of what the monitor told. */
export function appPage(app: string, issuer: string, onEnded: 'event' | 'reload' = 'event'): string {
  return `<!doctype html><html lang="en"><title>${app}</title><link rel="icon" href="data:,">
<script>${recordOpIframe(issuer)}
  const told = window.told = []
  const violations = window.violations = []
  document.addEventListener('securitypolicyviolation', ({ violatedDirective, blockedURI }) => violations.push(violatedDirective + ' ' + blockedURI))
  for (const type of ['alive', 'unknown', 'userswitched', 'ended']) {
    document.addEventListener('lockstep:' + type, ({ detail }) => {
      told.push({
        type, heardBy: detail.heardBy, heardAt: detail.heardAt, cause: detail.ended && detail.ended.cause,
        silentCheck: detail.session && detail.session.silent_check,
      })
      document.title = '${app}: ' + type
    })
  }
</script>
<script type="module" src="/auth/session-monitor.js" data-on-ended="${onEnded}"></script>
<h1>${app}</h1>
<form method="post" action="/auth/logout"><button>Sign out</button></form></html>`
}

/** A page that answers a form, says how it was asked for, and is left when its RP session ends. */
export function formPage(app: string, issuer: string, method: string): string {
  return appPage(app, issuer, 'reload').replace(
    '<h1>',
    `<form id="form" method="post" action="/form#sent"><button name="order" value="tea">Order</button></form><h1 id="method">${method}</h1><h1>`,
  )
}

/** A page that starts a monitor whenever it is told to, and waits until that has signed out. */
export function barePage(): string {
  return `<!doctype html><html lang="en"><title>bare</title><link rel="icon" href="data:,">
<script type="module">
  import { startSessionMonitor } from '/lockstep/browser.js'
  window.watchOnce = () => new Promise((alive) => {
    const monitor = startSessionMonitor()
    monitor.addEventListener('alive', alive, { once: true })
    window.watched = new Promise((ended) => monitor.addEventListener('ended', () => ended(), { once: true }))
  }).then(() => true)
</script></html>`
}

/** What promptNone's redirect URI has to be. */
export function silentPage(): string {
  return '<!doctype html><script>parent.postMessage(location.href, location.origin)</script>'
}

/** A page without a backend: it redeems its code itself and watches the OP; with `?again` for the login it had before. */
export function spaPage(issuer: string): string {
  return `<!doctype html><html lang="en"><title>page</title><link rel="icon" href="data:,"><h1>A page of its own</h1>
<script type="module">
  import { promptNone, startSpaMonitor } from '/lockstep/browser.js'
  const told = window.told = []${recordOpIframe(issuer)}
  const metadata = await (await fetch('${issuer}/.well-known/openid-configuration')).json()
  const base64url = (bytes) => btoa(String.fromCharCode(...bytes)).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '')
  const redirectUri = location.origin + '/'

  window.signIn = async (prompt) => {
    const verifier = base64url(crypto.getRandomValues(new Uint8Array(32)))
    sessionStorage.verifier = verifier
    const hash = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(verifier))
    const request = new URL(metadata.authorization_endpoint)
    request.search = new URLSearchParams({
      client_id: 'page', redirect_uri: redirectUri, response_type: 'code', scope: 'openid',
      code_challenge: base64url(new Uint8Array(hash)), code_challenge_method: 'S256', ...(prompt && { prompt }),
    })
    location.assign(request)
  }

  const answer = new URLSearchParams(location.search)
  if (answer.has('code')) {
    const response = await fetch(metadata.token_endpoint, {
      method: 'POST',
      body: new URLSearchParams({
        grant_type: 'authorization_code', client_id: 'page', redirect_uri: redirectUri, code: answer.get('code'),
        code_verifier: sessionStorage.verifier,
      }),
    })
    const { id_token } = await response.json()
    const claims = JSON.parse(atob(id_token.split('.')[1].replaceAll('-', '+').replaceAll('_', '/')))
    const login = { sub: claims.sub, sessionState: answer.get('session_state') }
    localStorage.login = JSON.stringify(login)
    watch(login)
  } else if (answer.has('again')) watch(JSON.parse(localStorage.login))
  else document.title = 'page: nobody'

  function watch(login) {
    const monitor = window.monitor = startSpaMonitor({
      ...login,
      clientId: 'page',
      checkSessionIframe: metadata.check_session_iframe,
      silentCheck: promptNone({ metadata, clientId: 'page', redirectUri: '/silent.html' }),
    })
    for (const type of ['alive', 'unknown', 'userswitched', 'ended']) {
      monitor.addEventListener(type, ({ detail }) => {
        told.push({ type, heardBy: detail.heardBy, heardAt: detail.heardAt, cause: detail.ended && detail.ended.cause })
        document.title = 'page: ' + type
      })
    }
  }
</script></html>`
}
