// The completion script for bash. It needs nothing but bash 4: the package bash-completion may be absent.
import type { Completable, CompletableCommand, CompletionTable } from './completion-table.ts';
import { topCommands } from './completion-table.ts';

/** The script. */
export function bashCompletion(table: CompletionTable): string {
  const top = topCommands(table);
  const groups = top.filter(({ subcommands }) => subcommands.length > 0);
  return `# bash completion for walcast; made by "walcast completion bash".
_walcast() {
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="" path="" word index
  if ((COMP_CWORD > 0)); then previous="\${COMP_WORDS[COMP_CWORD-1]}"; fi
  # bash takes "--name=value" apart at the "=".
  if [[ $current == "=" ]]; then
    current=""
  elif [[ $previous == "=" ]] && ((COMP_CWORD > 1)); then
    previous="\${COMP_WORDS[COMP_CWORD-2]}"
  fi
  for ((index = 1; index < COMP_CWORD; index++)); do
    word="\${COMP_WORDS[index]}"
    if [[ -z $path ]]; then
      [[ $word == -* ]] || path="$word"
    else
      case "$path" in
${groups.map(({ path }) => `        ${path}) [[ $word == -* ]] || path="$path $word" ;;`).join('\n')}
      esac
    fi
  done
  COMPREPLY=()
  case "$path" in
    "")
      _walcast_words "${[...top.map(({ path }) => path), ...table.options.map(({ name }) => name)].join(' ')}"
      ;;
${table.commands.map(commandCase).join('\n')}
  esac
}

_walcast_words() {
  mapfile -t COMPREPLY < <(compgen -W "$1" -- "$current")
}

_walcast_files() {
  compopt -o filenames 2>/dev/null
  mapfile -t COMPREPLY < <(compgen -f -- "$current")
}

_walcast_directories() {
  compopt -o filenames 2>/dev/null
  mapfile -t COMPREPLY < <(compgen -d -- "$current")
}

complete -F _walcast walcast
`;
}

function commandCase({ path, options, operand }: CompletableCommand): string {
  const values = options.flatMap(({ name, short, value }) =>
    value === null
      ? []
      : [`        ${short === null ? '' : `${short}|`}${name}) ${action(value)}; return ;;`],
  );
  const names = options.map(({ name }) => name).join(' ');
  return `    ${JSON.stringify(path)})
      case "$previous" in
${values.join('\n')}
      esac
      if [[ $current == -* ]]; then
        _walcast_words "${names}"
      else
        ${operand === null ? `_walcast_words "${names}"` : action(operand)}
      fi
      ;;`;
}

function action(value: Completable): string {
  switch (value.kind) {
    case 'words':
      return `_walcast_words "${value.words.join(' ')}"`;
    case 'file':
      return '_walcast_files';
    case 'directory':
      return '_walcast_directories';
    case 'anything':
      return ':';
  }
}
