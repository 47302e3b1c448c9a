import { base64url } from '../protocol/session-state.ts'

/**
 * The tab's one door to the world: time, chance, the network and the page. The files beside this one use nothing else,
 * so that tests run them under a fake clock and a fake page.
 */
export interface BrowserWorld {
  /** Epoch milliseconds. */
  now(): number
  /** From 0 to 1. */
  random(): number
  /** Runs `task` once, `ms` milliseconds later (0 to 24 days: browsers count in 32 bits); returns how to call it off. */
  after(ms: number, task: () => void): () => void
  fetch(url: string, init: RequestInit): Promise<Response>
  readonly window: EventTarget
  readonly document: EventTarget & Pick<Document, 'baseURI' | 'hidden'>
  /** Puts a hidden iframe into the page. */
  openFrame(url: string): Frame
  /** Web Locks, which let the tabs of one browser act as one; absent where the browser lacks them. */
  readonly arbiter: Pick<LockManager, 'request'> | undefined
  /** A BroadcastChannel; every browser that has Web Locks has them. */
  openChannel(name: string): Channel
}

/** A hidden iframe. */
export interface Frame extends EventTarget {
  readonly contentWindow: { postMessage(message: string, targetOrigin: string): void } | null
  remove(): void
}

/** A BroadcastChannel. */
export interface Channel extends EventTarget {
  postMessage(message: unknown): void
  close(): void
}

/** The world of this page. */
export function browserWorld(): BrowserWorld {
  return {
    now: Date.now,
    random: Math.random,
    after(ms, task) {
      const timer = setTimeout(task, ms)
      return () => clearTimeout(timer)
    },
    fetch: (url, init) => fetch(url, init),
    window,
    document,
    openFrame,
    arbiter: navigator.locks, // only where the page is a secure context
    openChannel: (name) => new BroadcastChannel(name),
  }
}

function openFrame(url: string): Frame {
  const frame = document.createElement('iframe')
  frame.id = url // Session §3.2 wants the OP iframe to have one
  frame.style.display = 'none' // the attribute "hidden" loses against any style sheet
  frame.src = url
  document.documentElement.append(frame) // frameworks exchange the body
  return frame
}

/** Randomness and hashes for who makes an authorization request. */
export interface BrowserCrypto {
  /** 256 bits of it as base64url. */
  randomText(): string
  /** The PKCE challenge of a verifier (RFC 7636 §4.2, S256). */
  challenge(verifier: string): Promise<string>
}

/** The browser's own. */
export function browserCrypto(): BrowserCrypto {
  return {
    randomText: () => base64url(crypto.getRandomValues(new Uint8Array(32))),
    challenge: async (verifier) =>
      base64url(new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(verifier)))),
  }
}
