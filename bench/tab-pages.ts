/* What the browsers of tab.ts load: pages that sign in, wait to be signed out by another app, report it and begin anew. */

/** Has another app of this browser sign out, in a window of its own, at any moment of a poll's period. */
const leave = (mail: string) =>
  `setTimeout(() => open('${mail}/auth/login?return_to=/leave', '', 'width=300,height=300'), Math.random() * 2000)`

const report = `
  const report = (what) => fetch('/' + what + '?visible=' + (document.visibilityState === 'visible') + '&at=' +
    (performance.timeOrigin + performance.now()), { method: 'POST', keepalive: true })`

const page = (title: string, body: string) =>
  `<!doctype html><html lang="en"><title>${title}</title><link rel="icon" href="data:,">${body}</html>`

/** A page with Lockstep's monitor. */
export function tabPage(mail: string): string {
  return page(
    'ours',
    `<script type="module">${report}
  let begun = false
  document.addEventListener('lockstep:alive', () => {
    if (begun) return
    begun = true
    report('alive')
    if (location.hash !== '#idle') ${leave(mail)}
  })
  document.addEventListener('lockstep:ended', async () => {
    await report('told')
    setTimeout(() => location.assign('/auth/login?return_to=/tab'), 500)
  })
</script>
<script type="module" src="/auth/session-monitor.js" data-on-ended="event"></script>`,
  )
}

/** The same with oidc-client-ts and its own defaults. */
export function spaPage(op: string, mail: string): string {
  return page(
    'peer',
    `<script type="module">${report}
  import { UserManager } from '/oidc-client-ts.js'
  const manager = new UserManager({
    authority: '${op}', client_id: 'spa', redirect_uri: location.origin + '/', scope: 'openid',
    silent_redirect_uri: location.origin + '/silent', monitorSession: true,
  })
  if (location.pathname === '/silent') await manager.signinSilentCallback()
  else if (new URLSearchParams(location.search).has('code')) {
    manager.events.addUserSignedOut(async () => {
      await report('told')
      await manager.removeUser()
      setTimeout(() => location.assign('/' + sessionStorage.idle), 500)
    })
    await manager.signinCallback()
    report('alive')
    if (sessionStorage.idle !== '#idle') ${leave(mail)}
  } else {
    sessionStorage.idle = location.hash
    await manager.signinRedirect()
  }
</script>`,
  )
}

/** Signs out of everything at once. */
export function leavePage(): string {
  return page('leaving', `<form method="post" action="/auth/logout"></form><script>document.forms[0].submit()</script>`)
}

/** Where the other app is when it has signed out. */
export function closePage(): string {
  return page('left', '<script>close()</script>')
}
