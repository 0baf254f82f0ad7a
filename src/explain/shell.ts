// Words and texts for a POSIX shell.

/** One word, quoted where the shell would read something into it. */
export function word(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** A text as a command's standard input, nothing in it expanded. */
export function hereDocument(text: string): string {
  const end = text.includes('\nEND\n') ? 'END_OF_TEXT' : 'END';
  return `<<'${end}'\n${text.replace(/\n?$/, '\n')}${end}`;
}
