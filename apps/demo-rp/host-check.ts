import type { RequestHandler } from 'express'

/**
 * Lets in what is meant for this app: its own host, and for the OP's Logout Tokens also 127.0.0.1, since the OP's
 * machine may not resolve `*.localhost`. Any other Host may be a web page's, bent here by DNS rebinding (T22).
 */
export function hostCheck({ appUrl, backchannelPath }: { appUrl: string; backchannelPath: string }): RequestHandler {
  const { host, port } = new URL(appUrl)
  const loopback = new Set([`127.0.0.1:${port}`, `localhost:${port}`, `[::1]:${port}`])
  return (req, res, next) => {
    const asked = req.headers.host?.toLowerCase() ?? ''
    if (asked === host || (loopback.has(asked) && req.path === backchannelPath)) {
      next()
    } else if (loopback.has(asked) && req.method === 'GET' && req.headers['sec-fetch-dest'] === 'document') {
      res.redirect(307, appUrl + req.originalUrl)
    } else {
      res.status(421).type('text').send(`This app answers as ${host} only.\n`)
    }
  }
}
