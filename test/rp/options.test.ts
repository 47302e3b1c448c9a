import { describe, expect, it } from 'vitest'
import { resolveRpOptions } from '../../src/rp/resolve-options.ts'
import type { RelyingPartyOptions } from '../../src/rp.ts'
import { memoryStore } from '../../src/rp-memory.ts'

const good: RelyingPartyOptions = {
  issuer: 'https://op.example',
  clientId: 'notes',
  clientSecret: 'secret',
  appUrl: 'https://notes.example',
  store: memoryStore(),
}

describe('options of createRelyingParty', () => {
  it.each([
    ['issuer', { issuer: 'op.example' }],
    ['issuer', { issuer: 'http://op.example' }],
    ['issuer', { issuer: 'ftp://localhost' }],
    ['issuer', { issuer: 'https://user:pass@op.example' }],
    ['issuer', { issuer: 'https://op.example/#x' }],
    ['issuer', { issuer: 'https://op.example/?tenant=1' }],
    ['issuer', { issuer: 'https://op.example/.well-known/openid-configuration' }],
    ['issuer', { issuer: 'https://op.example/.well-known/openid-configuration/tenant' }],
    ['appUrl', { appUrl: '/' }],
    ['appUrl', { appUrl: 'http://notes.example' }],
    ['appUrl', { appUrl: 'http://localhost.evil.example' }],
    ['appUrl', { appUrl: 'http://127.0.0.1.evil.example' }],
    ['appUrl', { appUrl: 'https://notes.example/?a' }],
    ['clientId', { clientId: '' }],
    ['clientSecret', { clientSecret: '' }],
    ['prefix', { prefix: 'auth' }],
    ['prefix', { prefix: '/auth/' }],
    ['prefix', { prefix: '/' }],
    ['scope', { scope: 'profile' }],
    ['idTokenSignedResponseAlg', { idTokenSignedResponseAlg: 'none' }],
    ['idTokenSignedResponseAlg', { idTokenSignedResponseAlg: 'HS256' }],
    ['tokenEndpointAuthMethod', { tokenEndpointAuthMethod: 'private_key_jwt' }],
    ['cookieSuffix', { cookieSuffix: 'a b' }],
    ['sessionLifetime.idle', { sessionLifetime: { idle: 0 } }],
    ['sessionLifetime.idle', { sessionLifetime: { idle: Number.NaN } }],
    ['sessionLifetime.absolute', { sessionLifetime: { idle: 100, absolute: 99 } }],
    ['sessionLifetime.absolute', { sessionLifetime: { absolute: Number.POSITIVE_INFINITY } }],
    ['sessionLifetime.absolute', { sessionLifetime: { absolute: 100_000.5 } }],
    ['sessionLifetime.idle', { sessionLifetime: { idle: 0.5 } }],
    ['sessionLifetime.idle', { sessionLifetime: { idle: '60' } }],
    ['sessionLifetime.idel', { sessionLifetime: { idel: 60 } }],
    ['mapSession', { mapSession: 'x' }],
    ['onSessionStarted', { onSessionStarted: {} }],
    ['onSessionEnded', { onSessionEnded: 1 }],
    ['endDownstream', { endDownstream: true }],
    ['log', { log: console }],
    ['scope', { scope: ['openid'] }],
    ['decryptionKeys', { decryptionKeys: {} }],
    ['clientSecret', { clientSecret: 5 }],
    ['secret', { secret: 5 }],
    ['prefix', { prefix: ['/auth'] }],
    ['cookieSuffix', { cookieSuffix: 5 }],
    ['dangerouslyAllowHttp', { dangerouslyAllowHttp: 'false' }],
    ['secret', { secret: 'too short' }],
    ['secret', { secret: [] }],
    ['store', { store: {} }],
    ['clientID', { clientID: 'notes' }],
    ['authorizationParams.response_mode', { authorizationParams: { response_mode: 'form_post' } }],
    ['authorizationParams.response_type', { authorizationParams: { response_type: 'id_token' } }],
    ['authorizationParams.redirect_uri', { authorizationParams: { redirect_uri: 'https://notes.example/' } }],
    ['authorizationParams.client_id', { authorizationParams: { client_id: 'mail' } }],
    ['authorizationParams.state', { authorizationParams: { state: 'mine' } }],
    ['authorizationParams.nonce', { authorizationParams: { nonce: 'mine' } }],
    ['authorizationParams.code_challenge', { authorizationParams: { code_challenge: 'mine' } }],
    ['authorizationParams.scope', { authorizationParams: { scope: 'openid email' } }],
    ['authorizationParams.request_uri', { authorizationParams: { request_uri: 'urn:x' } }],
    ['authorizationParams.max_age', { authorizationParams: { max_age: 'an hour' } }],
    ['authorizationParams.max_age', { authorizationParams: { max_age: 300 } }],
    ['authorizationParams.resource', { authorizationParams: { resource: ['a'] } }],
  ])('are refused with a TypeError that names %s (%j)', (name, wrong: object) => {
    const attempt = () => resolveRpOptions({ ...good, ...wrong })
    expect(attempt).toThrow(TypeError)
    expect(attempt).toThrow(new RegExp(`^${name.replace('.', '\\.')} `))
  })

  it('need a secret where there is no client secret to derive one from [T6]', () => {
    const { clientSecret: _none, ...publicClient } = good
    expect(() => resolveRpOptions(publicClient)).toThrow(/^secret is needed/)
    expect(resolveRpOptions({ ...publicClient, secret: 'x'.repeat(32) }).secrets).toEqual(['x'.repeat(32)])
  })

  it.each([
    'http://localhost:4001',
    'http://notes.localhost:4001',
    'http://127.0.0.1:4001',
    'http://[::1]:4001',
  ])('allow http at %s, with Secure cookies: browsers take them on this machine', (appUrl) => {
    const resolved = resolveRpOptions({ ...good, appUrl, issuer: 'http://localhost:4000' })
    expect(resolved.cookieName).toMatch(/^__Host-lockstep-/)
    expect(resolved.secureCookies).toBe(true)
  })

  it('allow http elsewhere only by a name that says what it is, and then without __Host-', () => {
    const resolved = resolveRpOptions({ ...good, appUrl: 'http://notes.example', dangerouslyAllowHttp: true })
    expect(resolved.cookieName).toMatch(/^lockstep-/)
    expect(resolved.secureCookies).toBe(false)
  })

  it('name cookies by issuer and client [T21]', () => {
    const names = [good, { ...good, clientId: 'mail' }, { ...good, issuer: 'https://other.example' }].map(
      (options) => resolveRpOptions(options).cookieName,
    )
    expect(new Set(names).size).toBe(3)
  })

  it('put the routes under the path of appUrl', () => {
    expect(resolveRpOptions({ ...good, appUrl: 'https://example.com/app/', prefix: '/login/oidc' })).toMatchObject({
      origin: 'https://example.com',
      home: '/app/',
      base: '/app/login/oidc',
    })
  })
})
