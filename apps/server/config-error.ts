/**
 * Something the operator must put right before this program can start. Its message is one line that names the key and
 * says what to do; the program prints it and leaves with exit code 2.
 */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'

  constructor(message: string, options?: ErrorOptions) {
    super(oneLine(message), options)
  }
}

/** Text from a file or a foreign library on one line, without anything a terminal would act on (T24). */
function oneLine(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\u2028\u2029]+/gu, ' ').slice(0, 500)
}
