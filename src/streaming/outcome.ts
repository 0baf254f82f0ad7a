// How a command or an attachment ended, and how the protocols say so: from v4 on as a Status object of the Kubernetes
// API in JSON, before as bare text, and nothing at all for success.

export type Outcome =
  | { readonly kind: 'success' }
  /** The command ended by itself with a code other than 0. */
  | { readonly kind: 'exitCode'; readonly code: number }
  /** It could not be run, or not to its end. */
  | { readonly kind: 'failure'; readonly message: string };

export function outcomeOfExit(code: number): Outcome {
  return code === 0 ? { kind: 'success' } : { kind: 'exitCode', code };
}

/** What is written on the error channel; '' = nothing. */
export function outcomeText(outcome: Outcome, format: 'status' | 'text'): string {
  if (format === 'status') return JSON.stringify(status(outcome));
  return outcome.kind === 'success' ? '' : message(outcome);
}

function message(outcome: Exclude<Outcome, { kind: 'success' }>): string {
  if (outcome.kind === 'failure') return outcome.message;
  return `command terminated with non-zero exit code: ${outcome.code}`;
}

/** metav1.Status; clients take the exit code from the cause. */
function status(outcome: Outcome): unknown {
  switch (outcome.kind) {
    case 'success':
      return { metadata: {}, status: 'Success' };
    case 'exitCode':
      return {
        metadata: {},
        status: 'Failure',
        message: message(outcome),
        reason: 'NonZeroExitCode',
        details: { causes: [{ reason: 'ExitCode', message: String(outcome.code) }] },
      };
    case 'failure':
      return {
        metadata: {},
        status: 'Failure',
        message: message(outcome),
        reason: 'InternalError',
        details: { causes: [{ message: outcome.message }] },
        code: 500,
      };
  }
}
