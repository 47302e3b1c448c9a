/** OpenTelemetry's API, which an application may have or not. */
export type OpenTelemetry = typeof import('@opentelemetry/api')

/** Loads OpenTelemetry's API where it is installed. What it measures goes to the SDK that the application has registered. */
export async function loadOpenTelemetry(): Promise<OpenTelemetry | undefined> {
  try {
    return await import('@opentelemetry/api')
  } catch (error) {
    if (isMissing(error)) return undefined
    throw error
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ERR_MODULE_NOT_FOUND'
}
