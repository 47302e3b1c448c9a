export type { AliveDocument } from './browser/decide.ts'
export type { SessionMonitorOptions } from './browser/options.ts'
export {
  type Heard,
  type HeardBy,
  type SessionMonitor,
  type SessionMonitorEvents,
  startSessionMonitor,
} from './browser/session-monitor.ts'
export type { SessionDocument, SessionEnd } from './protocol/session-document.ts'
