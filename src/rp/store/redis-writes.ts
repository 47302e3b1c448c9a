import { setImmediate } from 'node:timers/promises'
import type { Cluster, Redis } from 'ioredis'

/**
 * Lets the commands of one turn of the event loop leave in one write: ioredis makes a system call of each, which costs more
 * CPU than all else that a logout does here but its signature. Nothing waits for an answer because of it, as it would in a
 * pipeline. A cluster has a connection for each server, and is left as it is.
 */
export function writeTogether(client: Redis | Cluster): void {
  // ioredis' types know no connection that is not there yet.
  const stream: Redis['stream'] | undefined = client.isCluster ? undefined : (client as Redis).stream
  if (stream === undefined || stream.writableCorked > 0) return
  stream.cork()
  void setImmediate().then(() => stream.uncork())
}
