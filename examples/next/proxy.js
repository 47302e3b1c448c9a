import { mayBeSignedIn } from 'lockstep/rp/next'
import { NextResponse } from 'next/server'
import { rp } from './rp.js'

/** Spares the page the work for browsers without a cookie. The page itself decides. */
export function proxy(request) {
  if (mayBeSignedIn(rp, request)) return NextResponse.next()
  return NextResponse.redirect(new URL(rp.loginPath('/me', 'app'), request.url), 303)
}

export const config = { matcher: '/me' }
