// Reads what vitest wrote of a part of the tests (its JSON reporter) and tells hack/test.sh what became of it.
//   tsx hack/test-report.ts files REPORT         the files that have failures and may be run again, a line each
//   tsx hack/test-report.ts count REPORT STATUS [AGAIN]
//       "PASSED FAILED" on stdout, what failed and why on stderr. STATUS is vitest's exit code; AGAIN is the report of
//       a second run of those files: what it says of them takes the place of what the first one said.
import { readFileSync } from 'node:fs';
import { relative } from 'node:path';

interface Assertion {
  fullName: string;
  status: string;
  failureMessages?: string[];
}

interface FileResult {
  name: string;
  status: string;
  message?: string;
  assertionResults: Assertion[];
}

/** The lines of a failure's message that are shown: enough for the assertion and where it stands. */
const shownLines = 20;

// No report is one of no files: the run was killed, or vitest itself could not start.
function readReport(file: string): FileResult[] {
  try {
    return (JSON.parse(readFileSync(file, 'utf8')) as { testResults: FileResult[] }).testResults;
  } catch {
    return [];
  }
}

const failures = (file: FileResult): Assertion[] =>
  file.assertionResults.filter(test => test.status === 'failed');
const hasFailures = (file: FileResult): boolean => file.status === 'failed' || failures(file).length > 0;
const path = (file: FileResult): string => relative(process.cwd(), file.name);

/**
 * Files whose failures stand, since they look for what happens seldom: a pod that leaves something once in a hundred times
 * leaves it, and a second run that does not meet it says nothing.
 */
const seldom = /^test\/(faults\/|integration\/(soak|races|restart|upgrade|lost-parts|fuzz-[^/]*)\.test\.ts$)/;
const stands = (file: FileResult): boolean => seldom.test(path(file));

function describe(file: FileResult): string {
  const shown = (text: string | undefined) =>
    (text ?? '')
      .split('\n')
      .filter(line => !line.includes('/node_modules/'))
      .slice(0, shownLines)
      .map(line => `      ${line}\n`)
      .join('');
  const tests = failures(file);
  if (tests.length === 0) return `  ${path(file)}: the file as a whole\n${shown(file.message)}`;
  return tests.map(test => `  ${path(file)}: ${test.fullName}\n${shown(test.failureMessages?.[0])}`).join('');
}

function count(first: FileResult[], status: string, again: FileResult[]): void {
  const second = new Map(again.map(file => [file.name, file]));
  const final = first.map(file => (stands(file) ? file : (second.get(file.name) ?? file)));
  const mended = first.filter(
    file => hasFailures(file) && !final.some(f => f.name === file.name && hasFailures(f)),
  );
  const broken = final.filter(hasFailures);

  if (mended.length > 0) {
    process.stderr.write(`failed, then passed when run again alone:\n${mended.map(describe).join('')}`);
  }
  const [standing, twice] = [broken.filter(stands), broken.filter(file => !stands(file))];
  if (standing.length > 0) {
    const why = 'failed (not run again: what these tests look for happens seldom, and has happened)';
    process.stderr.write(`${why}:\n${standing.map(describe).join('')}`);
  }
  if (twice.length > 0) process.stderr.write(`failed:\n${twice.map(describe).join('')}`);

  const passed = final.flatMap(file => file.assertionResults).filter(test => test.status === 'passed').length;
  let failed = broken.reduce((sum, file) => sum + Math.max(1, failures(file).length), 0);
  // A failure outside of any file: a run that was killed, an error that nothing awaited.
  if (status !== '0' && !first.some(hasFailures)) {
    failed += 1;
    process.stderr.write(
      `failed:\n  vitest as a whole, with exit code ${status || 'unknown'}: see its output above\n`,
    );
  }
  process.stdout.write(`${passed} ${failed}\n`);
}

const [verb, report = '', status = '', again = ''] = process.argv.slice(2);
if (verb === 'files') {
  for (const file of readReport(report).filter(file => hasFailures(file) && !stands(file)))
    process.stdout.write(`${path(file)}\n`);
} else if (verb === 'count') {
  count(readReport(report), status, readReport(again));
} else {
  process.stderr.write('usage: tsx hack/test-report.ts files REPORT | count REPORT STATUS [AGAIN]\n');
  process.exitCode = 2;
}
