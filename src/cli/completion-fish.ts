// The completion script for fish: one line for each word that can stand somewhere.
import type {
  Completable,
  CompletableCommand,
  CompletableOption,
  CompletionTable,
} from './completion-table.ts';
import { topCommands } from './completion-table.ts';

/** The script. */
export function fishCompletion(table: CompletionTable): string {
  const top = topCommands(table);
  const groups = top.filter(({ subcommands }) => subcommands.length > 0);
  const lines = [
    ...table.options.map((option) => optionLine('__walcast_at ""', option)),
    ...top.map(
      ({ path, summary }) =>
        `complete -c walcast -n '__walcast_at ""' -a ${quoted(path)} -d ${quoted(summary)}`,
    ),
    ...table.commands.flatMap(commandLines),
  ];
  return `# fish completion for walcast; made by "walcast completion fish".
function __walcast_at
    set -l words (commandline -opc)
    set -l path
    for word in $words[2..-1]
        string match -q -- '-*' $word; and continue
        if test (count $path) -eq 0
            set path $word
        else if test (count $path) -eq 1; and contains -- $path[1] ${groups.map(({ path }) => path).join(' ')}
            set path $path $word
        end
    end
    test "$path" = "$argv[1]"
end

complete -c walcast -f
${lines.join('\n')}
`;
}

function commandLines({ path, options, operand, subcommands }: CompletableCommand): string[] {
  const condition = `__walcast_at ${JSON.stringify(path)}`;
  const base = `complete -c walcast -n ${quoted(condition)}`;
  const words = subcommands.map(
    ({ word, summary }) => `${base} -a ${quoted(word)} -d ${quoted(summary)}`,
  );
  const operands = subcommands.length > 0 || operand === null ? [] : operandLines(base, operand);
  return [...words, ...operands, ...options.map((option) => optionLine(condition, option))];
}

function operandLines(base: string, operand: Completable): string[] {
  const argument = valueArguments(operand);
  return argument === '' ? [] : [`${base}${argument}`];
}

function optionLine(condition: string, option: CompletableOption): string {
  const { name, short, description, value } = option;
  const letter = short === null ? '' : ` -s ${short.slice(1)}`;
  // -x: a value is wanted, and no file unless it is asked for.
  const flag = value?.kind === 'file' ? ' -r' : ' -x';
  const requires = value === null ? '' : `${flag}${valueArguments(value)}`;
  return `complete -c walcast -n ${quoted(condition)} -l ${name.slice(2)}${letter}${requires} -d ${quoted(description)}`;
}

function valueArguments(value: Completable): string {
  switch (value.kind) {
    case 'words':
      return ` -a ${quoted(value.words.join(' '))}`;
    case 'file':
      return ' -F';
    case 'directory':
      return " -a '(__fish_complete_directories)'";
    case 'anything':
      return '';
  }
}

function quoted(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}
