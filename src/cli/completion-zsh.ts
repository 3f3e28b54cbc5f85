// The completion script for zsh: one function for each command, in the words of _arguments.
import type {
  Completable,
  CompletableCommand,
  CompletableOption,
  CompletionTable,
} from './completion-table.ts';
import { topCommands } from './completion-table.ts';

/** The script. */
export function zshCompletion(table: CompletionTable): string {
  const top = topCommands(table);
  return `#compdef walcast
# zsh completion for walcast; made by "walcast completion zsh".

_walcast() {
  local context state state_descr line
  typeset -A opt_args
  _arguments -C \\
${table.options.map((option) => `    ${optionSpec(option)} \\`).join('\n')}
    '1:command:->command' \\
    '*::argument:->argument'
  case $state in
    command)
      local -a commands=(
${top.map(({ path, summary }) => `        ${quoted(`${path}:${summary}`)}`).join('\n')}
      )
      _describe -t commands command commands
      ;;
    argument)
      case $line[1] in
${top.map(({ path }) => `        ${path}) ${functionName(path)} ;;`).join('\n')}
      esac
      ;;
  esac
}

${table.commands.map((command) => commandFunction(command)).join('\n\n')}

if [[ $funcstack[1] == _walcast ]]; then
  _walcast "$@"
else
  compdef _walcast walcast
fi
`;
}

function commandFunction({ path, options, operand, subcommands }: CompletableCommand): string {
  if (subcommands.length > 0) {
    return `${functionName(path)}() {
  local context state state_descr line
  typeset -A opt_args
  _arguments -C '1:command:->command' '*::argument:->argument'
  case $state in
    command)
      local -a commands=(
${subcommands.map(({ word, summary }) => `        ${quoted(`${word}:${summary}`)}`).join('\n')}
      )
      _describe -t commands command commands
      ;;
    argument)
      case $line[1] in
${subcommands.map(({ word }) => `        ${word}) ${functionName(`${path} ${word}`)} ;;`).join('\n')}
      esac
      ;;
  esac
}`;
  }
  const specs = [
    ...options.map(optionSpec),
    ...(operand === null ? [] : [quoted(`*:argument:${action(operand)}`)]),
  ];
  return `${functionName(path)}() {
  _arguments \\
${specs.map((spec) => `    ${spec}`).join(' \\\n')}
}`;
}

function optionSpec({ name, short, description, value }: CompletableOption): string {
  const words = value === null ? '' : `:value:${action(value)}`;
  const text = `[${description.replaceAll(/[[\]\\]/g, ' ')}]${words}`;
  const long = value === null ? name : `${name}=`;
  if (short === null) return quoted(`*${long}${text}`);
  return `${quoted(`*${long}${text}`)} \\\n    ${quoted(`*${short}${text}`)}`;
}

function action(value: Completable): string {
  switch (value.kind) {
    case 'words':
      return `(${value.words.join(' ')})`;
    case 'file':
      return '_files';
    case 'directory':
      return '_files -/';
    case 'anything':
      return ' ';
  }
}

function functionName(path: string): string {
  return `_walcast_${path.replaceAll(/[^a-z]/g, '_')}`;
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
