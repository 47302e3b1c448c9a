import type { Dispatcher } from 'undici'

/** The dispatcher, with `onConnected` called when a request has a connection and its head is about to be written. */
export function watched(dispatcher: Dispatcher, onConnected: () => void): Dispatcher {
  return dispatcher.compose((dispatch) => (options, handler): boolean => {
    const start = handler.onRequestStart
    // a request has a handler of its own, so nobody else sees this
    handler.onRequestStart = (...args) => {
      onConnected()
      start?.apply(handler, args)
    }
    return dispatch(options, handler)
  })
}
