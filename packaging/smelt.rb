# Homebrew, from the clone that this file lies in: brew install --HEAD --formula packaging/smelt.rb
# A release adds url and sha256 of its archive.
class Smelt < Formula
  desc "Runs large language models on the machine in front of you"
  homepage "file://#{File.expand_path("..", __dir__)}"
  license "Apache-2.0"
  head "file://#{File.expand_path("..", __dir__)}", using: :git

  depends_on "boost" => :build
  depends_on "cli11" => :build
  depends_on "cmake" => :build
  depends_on "ninja" => :build
  depends_on "nlohmann-json" => :build
  depends_on "pkgconf" => :build
  depends_on "tomlplusplus" => :build
  depends_on "fmt"
  depends_on "giflib"
  depends_on "jpeg-turbo"
  depends_on "libpng"
  depends_on "openssl@3"
  depends_on "pcre2"
  depends_on "spdlog"
  depends_on "utf8proc"
  depends_on "webp"

  def install
    system "cmake", "-S", ".", "-B", "build", "-G", "Ninja", "-DSMELT_TESTS=OFF", "-DSMELT_JOIN=28", *std_cmake_args
    system "cmake", "--build", "build"
    system "cmake", "--install", "build"
    pkgshare.install "models/demo-5m"
  end

  test do
    answer = shell_output("#{bin}/smelt run #{pkgshare}/demo-5m --prompt 'What is 12 + 30?' --temperature 0")
    assert_match "42", answer
  end
end
