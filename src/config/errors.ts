// What loading can say: errors, which stop the start, and warnings, which do not.

export interface ConfigWarning {
  /** The key as the user wrote it, with the file when it came from one: `FILE: plugins."...".key`. */
  readonly path: string;
  readonly message: string;
  /** `warn`: something asked for will not happen, or may surprise. `info`: good to know. */
  readonly level: 'info' | 'warn';
}

export interface ConfigProblem {
  readonly path: string;
  readonly message: string;
}

/** Every problem found in the configuration, not the first alone. */
export class ConfigError extends Error {
  readonly problems: readonly ConfigProblem[];

  constructor(problems: readonly ConfigProblem[]) {
    super(problems.map(({ path, message }) => `${path}: ${message}`).join('\n'));
    this.name = 'ConfigError';
    this.problems = problems;
  }
}
