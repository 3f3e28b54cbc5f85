// How help is laid out: the list of commands, and the page of one command.
import type { Command, CommandOption } from './command.ts';
import { HELP_OPTION } from './parse-input.ts';

/** The page of `walcast --help`. */
export function overviewHelp(commands: readonly Command[]): string {
  const width = Math.max(...commands.map(({ name }) => name.length));
  const lines = commands.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`);
  return `walcast is a WAL relay for PostgreSQL: one connection to the upstream server, any number of standbys behind it.

Usage: walcast COMMAND [OPTION]...

Commands:
${lines.join('\n')}

"walcast help COMMAND" or "walcast COMMAND --help" shows a command's options with examples.
"walcast --version" shows the version.
`;
}

/** The page of one command. */
export function commandHelp(command: Command): string {
  if (command.subcommands !== undefined) return groupHelp(command, command.subcommands);
  const options = [...command.options, HELP_OPTION];
  const terms = options.map(optionTerm);
  const width = Math.max(...terms.map((term) => term.length));
  const lines = options.map(({ description }, index) => {
    const text = wrap(description, LINE_WIDTH - width - 4);
    return `  ${(terms[index] ?? '').padEnd(width)}  ${text.join(`\n${' '.repeat(width + 4)}`)}`;
  });
  const operands = command.operands === undefined ? '' : ` ${command.operands}`;
  return `${command.summary}

Usage: walcast ${command.name} [OPTION]...${operands}

Options:
${lines.join('\n')}

${reflowed(command.help)}
`;
}

function groupHelp(group: Command, commands: readonly Command[]): string {
  const terms = commands.map(
    ({ name, operands }) => `${name}${operands === undefined ? '' : ` ${operands}`}`,
  );
  const width = Math.max(...terms.map((term) => term.length));
  const lines = commands.map(({ summary }, index) => {
    const text = wrap(summary, LINE_WIDTH - width - 4);
    return `  ${(terms[index] ?? '').padEnd(width)}  ${text.join(`\n${' '.repeat(width + 4)}`)}`;
  });
  return `${group.summary}

Usage: walcast ${group.name} COMMAND [OPTION]...

Commands:
${lines.join('\n')}

"walcast help ${group.name} COMMAND" shows a command's options with examples.

${reflowed(group.help)}
`;
}

const LINE_WIDTH = 100;

function optionTerm({ name, short, placeholder }: CommandOption): string {
  const letter = short === undefined ? '    ' : `-${short}, `;
  return `${letter}--${name}${placeholder === undefined ? '' : ` ${placeholder}`}`;
}

/** Paragraphs of text at the width of a help page; what is indented stays as it was written. */
function reflowed(help: string): string {
  const paragraphs = help.trim().split(/\n{2,}/);
  return paragraphs
    .map((lines) =>
      /^ /m.test(lines) ? lines : wrap(lines.replaceAll('\n', ' '), LINE_WIDTH).join('\n'),
    )
    .join('\n\n');
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  return [...lines, line];
}
