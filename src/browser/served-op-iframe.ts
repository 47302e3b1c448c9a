/**
 * The script of the page at `check_session_iframe`, bundled to `dist/served/op-iframe.js`. It reads its settings from
 * `<html data-site data-cookie data-check>` and runs as a module, inline or not.
 */
import { answerStatusRequests } from './op-iframe.ts'

const settings = document.documentElement.dataset

answerStatusRequests({
  window,
  site: settings.site,
  cookieName: settings.cookie ?? '',
  cookies: () => document.cookie,
  hasStorageAccess: () => document.hasStorageAccess(),
  askOp: (body) =>
    fetch(settings.check ?? '', { method: 'POST', headers: { 'content-type': 'application/json' }, body }),
  sha256: async (text) => new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text))),
})
